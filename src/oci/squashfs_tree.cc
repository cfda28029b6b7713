// The metadata half of a squashfs image. Children are written before their directories, since
// entries point at inodes; an explicit stack keeps deep trees off the call stack.
#include "oci/squashfs_tree.h"

#include <sqfs/dir_writer.h>
#include <sqfs/error.h>
#include <sqfs/frag_table.h>
#include <sqfs/id_table.h>
#include <sqfs/inode.h>
#include <sqfs/meta_writer.h>
#include <sqfs/xattr_writer.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include "base/check.h"

namespace sm {
namespace {

constexpr std::uint32_t kNoXattrs = 0xFFFFFFFF;
// What overlayfs looks for. Spec: the kernel's filesystems/overlayfs.rst, "whiteouts and opaque
// directories".
constexpr const char* kOpaqueName = "trusted.overlay.opaque";
constexpr char kOpaqueValue = 'y';

std::uint16_t type_bits(NodeKind kind) {
  switch (kind) {
    case NodeKind::kFile:
      return SQFS_INODE_MODE_REG;
    case NodeKind::kDirectory:
      return SQFS_INODE_MODE_DIR;
    case NodeKind::kSymlink:
      return SQFS_INODE_MODE_LNK;
    case NodeKind::kCharDevice:
      return SQFS_INODE_MODE_CHR;
    case NodeKind::kBlockDevice:
      return SQFS_INODE_MODE_BLK;
    case NodeKind::kFifo:
      return SQFS_INODE_MODE_FIFO;
  }
  return SQFS_INODE_MODE_REG;
}

std::uint16_t full_mode(const Node& node) {
  return static_cast<std::uint16_t>(type_bits(node.kind) | (node.mode & 07777U));
}

Result<SqfsInode> new_inode(std::uint16_t type, std::size_t payload) {
  SqfsInode inode(
      static_cast<sqfs_inode_generic_t*>(std::calloc(1, sizeof(sqfs_inode_generic_t) + payload)));
  if (!inode) return fail(Code::kIo, "out of memory for the layer's inodes");
  inode->base.type = type;
  inode->payload_bytes_available = static_cast<std::uint32_t>(payload);
  inode->payload_bytes_used = static_cast<std::uint32_t>(payload);
  return inode;
}

// Stores a link count; extended inodes are the only ones of files that have room for one.
Status set_links(sqfs_inode_generic_t& inode, std::uint32_t links) {
  if (inode.base.type == SQFS_INODE_FILE && links > 1 && sqfs_inode_make_extended(&inode) != 0) {
    return fail(Code::kInternal, "cannot extend a squashfs inode");
  }
  switch (inode.base.type) {
    case SQFS_INODE_EXT_FILE:
      inode.data.file_ext.nlink = links;
      break;
    case SQFS_INODE_SLINK:
      inode.data.slink.nlink = links;
      break;
    case SQFS_INODE_EXT_SLINK:
      inode.data.slink_ext.nlink = links;
      break;
    case SQFS_INODE_BDEV:
    case SQFS_INODE_CDEV:
      inode.data.dev.nlink = links;
      break;
    case SQFS_INODE_EXT_BDEV:
    case SQFS_INODE_EXT_CDEV:
      inode.data.dev_ext.nlink = links;
      break;
    case SQFS_INODE_FIFO:
      inode.data.ipc.nlink = links;
      break;
    case SQFS_INODE_EXT_FIFO:
      inode.data.ipc_ext.nlink = links;
      break;
    case SQFS_INODE_DIR:
      inode.data.dir.nlink = links;
      break;
    case SQFS_INODE_EXT_DIR:
      inode.data.dir_ext.nlink = links;
      break;
    default:
      break;
  }
  return {};
}

}  // namespace

tl::unexpected<Error> squashfs_failure(std::string_view doing, int status,
                                       const SquashfsFile& file) {
  const std::string what = "cannot write the layer's squashfs image: " + std::string(doing);
  if (status == SQFS_ERROR_IO && file.last_errno() != 0) {
    auto error = Error::from_errno(what, file.last_errno());
    if (file.last_errno() != ENOSPC) return fail(std::move(error));
    return fail(std::move(error).or_remedy("free some space below the image cache"));
  }
  if (status == SQFS_ERROR_OVERFLOW) return fail(Code::kLimit, what + ": a table is full");
  if (status == SQFS_ERROR_ALLOC) return fail(Code::kIo, what + ": out of memory");
  return fail(Code::kInternal, what + ": libsquashfs error " + std::to_string(status));
}

SquashfsTree::SquashfsTree(const LayerTree& tree, std::span<const SqfsInode> files,
                           SquashfsFile& file, sqfs_compressor_t* compressor)
    : tree_(tree),
      files_(files),
      file_(file),
      compressor_(compressor),
      places_(tree.node_count()),
      xattr_cache_(tree.xattr_sets().size() + 1, {kNoXattrs, kNoXattrs}) {}

Status SquashfsTree::create_writers() {
  inode_writer_.reset(sqfs_meta_writer_create(file_.handle(), compressor_, 0));
  directory_meta_.reset(
      sqfs_meta_writer_create(file_.handle(), compressor_, SQFS_META_WRITER_KEEP_IN_MEMORY));
  if (directory_meta_) directory_writer_.reset(sqfs_dir_writer_create(directory_meta_.get(), 0));
  ids_.reset(sqfs_id_table_create(0));
  xattrs_.reset(sqfs_xattr_writer_create(0));
  if (!inode_writer_ || !directory_writer_ || !ids_ || !xattrs_) {
    return fail(Code::kIo, "out of memory for the layer's tables");
  }
  return {};
}

// Numbers all reachable inodes, directory by directory, and counts the names that lead to them.
Status SquashfsTree::number_nodes() {
  std::vector<NodeId> pending{tree_.root()};
  place(tree_.root()).number = next_number_++;
  place(tree_.root()).links = 2;
  while (!pending.empty()) {
    const auto dir = pending.back();
    pending.pop_back();
    for (const auto& [name, child] : tree_.node(dir).children) {
      if (child.node == NodeId::kNone) {
        if (whiteout_.number == 0) whiteout_.number = next_number_++;
        ++whiteout_.links;
        continue;
      }
      auto& at = place(child.node);
      if (at.number == 0) at.number = next_number_++;
      if (tree_.node(child.node).kind != NodeKind::kDirectory) {
        ++at.links;
        continue;
      }
      SM_CHECK(at.links == 0);  // a directory has one name
      at.links = 2;
      ++place(dir).links;
      pending.push_back(child.node);
    }
  }
  return {};
}

Status SquashfsTree::write(sqfs_super_t& super, sqfs_frag_table_t* fragments) {
  SM_TRY_STATUS(create_writers());
  SM_TRY_STATUS(number_nodes());
  super.inode_table_start = file_.size();
  if (whiteout_.number != 0) SM_TRY_STATUS(add_whiteout_inode());
  SM_TRY_STATUS(write_directories());
  SM_SQFS(sqfs_meta_writer_flush(inode_writer_.get()), "inodes", file_);
  SM_SQFS(sqfs_meta_writer_flush(directory_meta_.get()), "directories", file_);
  super.root_inode_ref = place(tree_.root()).reference;
  super.inode_count = next_number_ - 1;
  super.directory_table_start = file_.size();
  SM_SQFS(sqfs_meta_write_write_to_file(directory_meta_.get()), "directories", file_);
  SM_SQFS(sqfs_frag_table_write(fragments, file_.handle(), &super, compressor_), "fragments",
          file_);
  SM_SQFS(sqfs_id_table_write(ids_.get(), file_.handle(), &super, compressor_), "owners", file_);
  SM_SQFS(sqfs_xattr_writer_flush(xattrs_.get(), file_.handle(), &super, compressor_),
          "extended attributes", file_);
  return {};
}

Status SquashfsTree::add_whiteout_inode() {
  auto inode = SM_TRY(new_inode(SQFS_INODE_CDEV, 0));
  Node node;
  node.kind = NodeKind::kCharDevice;
  return put_inode(*inode, node, whiteout_);
}

Status SquashfsTree::write_directories() {
  struct Step {
    NodeId dir;
    NodeId parent;
    bool entered;
  };
  std::vector<Step> stack{{tree_.root(), tree_.root(), false}};
  while (!stack.empty()) {
    auto& top = stack.back();
    const auto step = top;
    if (step.entered) {
      stack.pop_back();
      SM_TRY_STATUS(write_directory(step.dir, step.parent));
      continue;
    }
    top.entered = true;
    for (const auto& [name, child] : tree_.node(step.dir).children) {
      if (child.node == NodeId::kNone) continue;
      if (tree_.node(child.node).kind != NodeKind::kDirectory) continue;
      stack.push_back({child.node, step.dir, false});
    }
  }
  return {};
}

Status SquashfsTree::write_directory(NodeId id, NodeId parent) {
  const auto& dir = tree_.node(id);
  for (const auto& [name, child] : dir.children) {
    if (child.node == NodeId::kNone) continue;
    const bool is_directory = tree_.node(child.node).kind == NodeKind::kDirectory;
    // The first name of several writes the inode.
    if (!is_directory && !place(child.node).written) SM_TRY_STATUS(write_leaf(child.node));
  }
  auto* writer = directory_writer_.get();
  SM_SQFS(sqfs_dir_writer_begin(writer, 0), "a directory", file_);
  for (const auto& [name, child] : dir.children) {
    const bool is_whiteout = child.node == NodeId::kNone;
    const auto& at = is_whiteout ? whiteout_ : place(child.node);
    const auto mode =
        is_whiteout ? std::uint16_t{SQFS_INODE_MODE_CHR} : full_mode(tree_.node(child.node));
    SM_SQFS(sqfs_dir_writer_add_entry(writer, name.c_str(), at.number, at.reference, mode),
            "a directory entry", file_);
  }
  SM_SQFS(sqfs_dir_writer_end(writer), "a directory", file_);
  const auto xattrs = SM_TRY(xattr_index(dir));
  auto& at = place(id);
  const SqfsInode inode(
      sqfs_dir_writer_create_inode(writer, at.links, xattrs, place(parent).number));
  if (!inode) return fail(Code::kIo, "out of memory for the layer's directories");
  return put_inode(*inode, dir, at);
}

Result<SqfsInode> SquashfsTree::leaf_inode(const Node& node) const {
  if (node.kind == NodeKind::kSymlink) {
    auto inode = SM_TRY(new_inode(SQFS_INODE_SLINK, node.target.size()));
    inode->data.slink.target_size = static_cast<std::uint32_t>(node.target.size());
    std::memcpy(inode->extra, node.target.data(), node.target.size());
    return inode;
  }
  const bool is_fifo = node.kind == NodeKind::kFifo;
  const auto type = is_fifo                              ? SQFS_INODE_FIFO
                    : node.kind == NodeKind::kCharDevice ? SQFS_INODE_CDEV
                                                         : SQFS_INODE_BDEV;
  auto inode = SM_TRY(new_inode(static_cast<std::uint16_t>(type), 0));
  if (!is_fifo) inode->data.dev.devno = node.device;
  return inode;
}

Status SquashfsTree::write_leaf(NodeId id) {
  const auto& node = tree_.node(id);
  if (node.kind == NodeKind::kFile) {
    SM_CHECK(static_cast<std::uint32_t>(node.file) < files_.size());
    return put_inode(*files_[static_cast<std::uint32_t>(node.file)], node, place(id));
  }
  auto inode = SM_TRY(leaf_inode(node));
  return put_inode(*inode, node, place(id));
}

Status SquashfsTree::put_inode(sqfs_inode_generic_t& inode, const Node& node, Place& at) {
  inode.base.mode = full_mode(node);
  inode.base.mod_time = node.mtime;
  inode.base.inode_number = at.number;
  SM_SQFS(sqfs_id_table_id_to_index(ids_.get(), node.uid, &inode.base.uid_idx), "owners", file_);
  SM_SQFS(sqfs_id_table_id_to_index(ids_.get(), node.gid, &inode.base.gid_idx), "owners", file_);
  if (node.kind != NodeKind::kDirectory) {
    const auto xattrs = SM_TRY(xattr_index(node));
    if (xattrs != kNoXattrs) {
      SM_SQFS(sqfs_inode_set_xattr_index(&inode, xattrs), "extended attributes", file_);
    }
  }
  SM_TRY_STATUS(set_links(inode, at.links));
  sqfs_u64 block = 0;
  sqfs_u32 offset = 0;
  sqfs_meta_writer_get_position(inode_writer_.get(), &block, &offset);
  SM_SQFS(sqfs_meta_writer_write_inode(inode_writer_.get(), &inode), "an inode", file_);
  at.reference = (block << 16U) | offset;
  at.written = true;
  return {};
}

Result<std::uint32_t> SquashfsTree::xattr_index(const Node& node) {
  const bool opaque = node.kind == NodeKind::kDirectory && node.opaque;
  if (node.xattrs == 0 && !opaque) return kNoXattrs;
  auto& slots = xattr_cache_[node.xattrs];
  auto& slot = opaque ? slots.second : slots.first;
  if (slot != kNoXattrs) return slot;
  auto* writer = xattrs_.get();
  SM_SQFS(sqfs_xattr_writer_begin(writer, 0), "extended attributes", file_);
  if (node.xattrs != 0) {
    for (const auto& [name, value] : tree_.xattr_sets()[node.xattrs - 1]) {
      SM_SQFS(sqfs_xattr_writer_add(writer, name.c_str(), value.data(), value.size()),
              "extended attributes", file_);
    }
  }
  if (opaque) {
    SM_SQFS(sqfs_xattr_writer_add(writer, kOpaqueName, &kOpaqueValue, 1), "extended attributes",
            file_);
  }
  SM_SQFS(sqfs_xattr_writer_end(writer, &slot), "extended attributes", file_);
  return slot;
}

}  // namespace sm
