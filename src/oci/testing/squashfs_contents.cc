// Reading squashfs images back through libsquashfs.
#include "oci/testing/squashfs_contents.h"

#include <sqfs/compressor.h>
#include <sqfs/data_reader.h>
#include <sqfs/dir_reader.h>
#include <sqfs/id_table.h>
#include <sqfs/inode.h>
#include <sqfs/io.h>
#include <sqfs/super.h>
#include <sqfs/xattr.h>
#include <sqfs/xattr_reader.h>

#include <memory>
#include <vector>

#include "base/check.h"
#include "oci/squashfs_compressor.h"

namespace sm::testing {
namespace {

constexpr std::uint64_t kMaxData = 8U << 20U;

class Reader {
 public:
  explicit Reader(const std::string& path)
      : file_(sqfs_open_file(path.c_str(), SQFS_FILE_OPEN_READ_ONLY)) {
    SM_CHECK(file_ != nullptr);
    SM_CHECK(sqfs_super_read(&super_, file_.get()) == 0);
    sqfs_compressor_config_t config{};
    SM_CHECK(sqfs_compressor_config_init(&config, kSquashfsCompressor, super_.block_size,
                                         SQFS_COMP_FLAG_UNCOMPRESS) == 0);
    sqfs_compressor_t* compressor = nullptr;
    SM_CHECK(sqfs_compressor_create(&config, &compressor) == 0);
    compressor_.reset(compressor);
    ids_.reset(sqfs_id_table_create(0));
    SM_CHECK(sqfs_id_table_read(ids_.get(), file_.get(), &super_, compressor) == 0);
    directories_.reset(sqfs_dir_reader_create(&super_, compressor, file_.get(), 0));
    data_.reset(sqfs_data_reader_create(file_.get(), super_.block_size, compressor, 0));
    SM_CHECK(sqfs_data_reader_load_fragment_table(data_.get(), &super_) == 0);
    if ((super_.flags & SQFS_FLAG_NO_XATTRS) == 0) {
      xattrs_.reset(sqfs_xattr_reader_create(0));
      SM_CHECK(sqfs_xattr_reader_load(xattrs_.get(), &super_, file_.get(), compressor) == 0);
    }
  }

  std::map<std::string, SquashfsItem> read() {
    sqfs_tree_node_t* root = nullptr;
    SM_CHECK(
        sqfs_dir_reader_get_full_hierarchy(directories_.get(), ids_.get(), nullptr, 0, &root) == 0);
    std::map<std::string, SquashfsItem> out;
    std::vector<std::pair<std::string, const sqfs_tree_node_t*>> pending{{"", root}};
    while (!pending.empty()) {
      const auto [path, node] = pending.back();
      pending.pop_back();
      SM_CHECK(out.emplace(path, item(*node)).second);
      for (const auto* child = node->children; child != nullptr; child = child->next) {
        const std::string name = reinterpret_cast<const char*>(child->name);
        pending.emplace_back(path.empty() ? name : path + "/" + name, child);
      }
    }
    sqfs_dir_tree_destroy(root);
    return out;
  }

 private:
  SquashfsItem item(const sqfs_tree_node_t& node) {
    const auto& inode = *node.inode;
    SquashfsItem out;
    out.mode = inode.base.mode;
    out.uid = node.uid;
    out.gid = node.gid;
    out.mtime = inode.base.mod_time;
    out.inode = inode.base.inode_number;
    read_kind(inode, out);
    sqfs_u32 index = 0xFFFFFFFF;
    SM_CHECK(sqfs_inode_get_xattr_index(&inode, &index) == 0);
    if (index != 0xFFFFFFFF) read_xattrs(index, out);
    return out;
  }

  void read_kind(const sqfs_inode_generic_t& inode, SquashfsItem& out) {
    switch (inode.base.type) {
      case SQFS_INODE_FILE:
      case SQFS_INODE_EXT_FILE:
        out.links = inode.base.type == SQFS_INODE_FILE ? 1 : inode.data.file_ext.nlink;
        out.sparse = inode.base.type == SQFS_INODE_FILE ? 0 : inode.data.file_ext.sparse;
        read_data(inode, out);
        break;
      case SQFS_INODE_SLINK:
      case SQFS_INODE_EXT_SLINK:
        out.links = inode.base.type == SQFS_INODE_SLINK ? inode.data.slink.nlink
                                                        : inode.data.slink_ext.nlink;
        out.data.assign(reinterpret_cast<const char*>(inode.extra), inode.data.slink.target_size);
        break;
      case SQFS_INODE_BDEV:
      case SQFS_INODE_CDEV:
        out.links = inode.data.dev.nlink;
        out.device = inode.data.dev.devno;
        break;
      case SQFS_INODE_EXT_BDEV:
      case SQFS_INODE_EXT_CDEV:
        out.links = inode.data.dev_ext.nlink;
        out.device = inode.data.dev_ext.devno;
        break;
      case SQFS_INODE_DIR:
        out.links = inode.data.dir.nlink;
        break;
      case SQFS_INODE_EXT_DIR:
        out.links = inode.data.dir_ext.nlink;
        break;
      default:
        out.links = inode.data.ipc.nlink;
        break;
    }
  }

  void read_data(const sqfs_inode_generic_t& inode, SquashfsItem& out) {
    sqfs_u64 size = 0;
    SM_CHECK(sqfs_inode_get_file_size(&inode, &size) == 0);
    out.size = size;
    if (size > kMaxData) return;
    out.data.resize(size);
    sqfs_u64 at = 0;
    while (at < size) {
      const auto got = sqfs_data_reader_read(data_.get(), &inode, at, out.data.data() + at,
                                             static_cast<sqfs_u32>(size - at));
      SM_CHECK(got > 0);
      at += static_cast<sqfs_u64>(got);
    }
  }

  void read_xattrs(sqfs_u32 index, SquashfsItem& out) {
    SM_CHECK(xattrs_ != nullptr);
    sqfs_xattr_id_t desc{};
    SM_CHECK(sqfs_xattr_reader_get_desc(xattrs_.get(), index, &desc) == 0);
    SM_CHECK(sqfs_xattr_reader_seek_kv(xattrs_.get(), &desc) == 0);
    for (sqfs_u32 i = 0; i < desc.count; ++i) {
      sqfs_xattr_entry_t* key = nullptr;
      SM_CHECK(sqfs_xattr_reader_read_key(xattrs_.get(), &key) == 0);
      sqfs_xattr_value_t* value = nullptr;
      SM_CHECK(sqfs_xattr_reader_read_value(xattrs_.get(), key, &value) == 0);
      out.xattrs[reinterpret_cast<const char*>(key->key)] =
          std::string(reinterpret_cast<const char*>(value->value), value->size);
      sqfs_free(key);
      sqfs_free(value);
    }
  }

  SqfsPtr<sqfs_file_t> file_;
  sqfs_super_t super_{};
  SqfsPtr<sqfs_compressor_t> compressor_;
  SqfsPtr<sqfs_id_table_t> ids_;
  SqfsPtr<sqfs_dir_reader_t> directories_;
  SqfsPtr<sqfs_data_reader_t> data_;
  SqfsPtr<sqfs_xattr_reader_t> xattrs_;
};

}  // namespace

std::map<std::string, SquashfsItem> read_squashfs(const std::string& path) {
  return Reader(path).read();
}

}  // namespace sm::testing
