// The rules by which tar entries become a tree.
#include "oci/layer_tree.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "base/check.h"
#include "oci/text.h"

namespace sm {
namespace {

// Spec: OCI image layer, "Whiteouts".
constexpr std::string_view kWhiteoutPrefix = ".wh.";
constexpr std::string_view kOpaqueMarker = ".wh..wh..opq";
constexpr std::string_view kAufsPrefix = ".wh..wh.";

constexpr std::uint32_t kDirectoryMode = 0755;
constexpr std::size_t kMaxXattrName = 255;          // XATTR_NAME_MAX
constexpr std::size_t kMaxXattrValue = 64U << 10U;  // XATTR_SIZE_MAX
constexpr std::size_t kXattrOverhead = 128;         // memory per attribute beside its bytes
constexpr std::size_t kMaxSymlinkTarget = 4095;     // PATH_MAX without its NUL

bool is_leaf_kind(TarKind kind) {
  return kind == TarKind::kFile || kind == TarKind::kSymlink || kind == TarKind::kCharDevice ||
         kind == TarKind::kBlockDevice || kind == TarKind::kFifo;
}

NodeKind node_kind(TarKind kind) {
  switch (kind) {
    case TarKind::kSymlink:
      return NodeKind::kSymlink;
    case TarKind::kCharDevice:
      return NodeKind::kCharDevice;
    case TarKind::kBlockDevice:
      return NodeKind::kBlockDevice;
    case TarKind::kFifo:
      return NodeKind::kFifo;
    default:
      return NodeKind::kFile;
  }
}

Result<std::uint32_t> owner_id(std::int64_t id) {
  // The highest value means "no owner" to the kernel.
  if (id < 0 || id >= std::numeric_limits<std::uint32_t>::max()) {
    return fail(Code::kLimit, "its owner " + std::to_string(id) + " does not fit 32 bits");
  }
  return static_cast<std::uint32_t>(id);
}

// squashfs stores unsigned 32-bit seconds.
std::uint32_t clamp_time(std::int64_t seconds) {
  constexpr std::int64_t kMax = std::numeric_limits<std::uint32_t>::max();
  return static_cast<std::uint32_t>(std::clamp<std::int64_t>(seconds, 0, kMax));
}

Result<std::uint32_t> device_number(const TarEntry& entry) {
  if (entry.device_major > 0xFFF || entry.device_minor > 0xFFFFF) {
    return fail(Code::kLimit, "its device number " + std::to_string(entry.device_major) + ":" +
                                  std::to_string(entry.device_minor) + " is out of range");
  }
  const auto major = static_cast<std::uint32_t>(entry.device_major);
  const auto minor = static_cast<std::uint32_t>(entry.device_minor);
  return (minor & 0xFFU) | (major << 8U) | ((minor & ~0xFFU) << 12U);
}

// squashfs knows three namespaces, and overlayfs' own marks must come from us alone.
bool is_storable_xattr(std::string_view name) {
  if (name.starts_with("trusted.overlay.")) return false;
  return name.starts_with("user.") || name.starts_with("trusted.") || name.starts_with("security.");
}

}  // namespace

LayerTree::LayerTree(TreeLimits limits) : limits_(limits) {
  Node root;
  root.kind = NodeKind::kDirectory;
  root.implicit = true;
  root.mode = kDirectoryMode;
  nodes_.push_back(std::move(root));
}

Status LayerTree::charge() {
  if (++names_ <= limits_.max_names) return {};
  return fail(Code::kLimit, "with it there are more than " + std::to_string(limits_.max_names) +
                                " files, the limit");
}

Result<NodeId> LayerTree::add_node(NodeKind kind) {
  SM_TRY_STATUS(charge());
  const auto id = static_cast<NodeId>(nodes_.size());
  nodes_.emplace_back().kind = kind;
  return id;
}

// The directory that holds the last component; missing ones come into being.
Result<NodeId> LayerTree::open_parent(const SafePath& path) {
  NodeId at = root();
  for (std::size_t i = 0; i + 1 < path.size(); ++i) {
    if (path[i].starts_with(kWhiteoutPrefix)) {
      return fail(Code::kCorrupt, "it lies below a whiteout");
    }
    auto& children = node_at(at).children;
    auto found = children.find(path[i]);
    if (found == children.end()) found = children.emplace(std::string(path[i]), Child{}).first;
    if (found->second.node == NodeId::kNone) {
      const auto id = SM_TRY(add_node(NodeKind::kDirectory));
      node_at(id).implicit = true;
      node_at(id).mode = kDirectoryMode;
      found->second.node = id;
    }
    at = found->second.node;
    const auto kind = node(at).kind;
    if (kind == NodeKind::kSymlink) {
      return fail(Code::kCorrupt,
                  "its parent \"" + printable(path[i]) + "\" is a symbolic link in the same layer");
    }
    if (kind != NodeKind::kDirectory) {
      return fail(Code::kCorrupt,
                  "its parent \"" + printable(path[i]) + "\" is not a directory in the same layer");
    }
  }
  return at;
}

Result<NodeId> LayerTree::find(const SafePath& path) const {
  NodeId at = root();
  for (const auto part : path) {
    const auto& current = node(at);
    if (current.kind == NodeKind::kSymlink) {
      return fail(Code::kCorrupt, "its hard link target lies behind a symbolic link");
    }
    const auto found = current.children.find(part);
    if (found == current.children.end() || found->second.node == NodeId::kNone) {
      return fail(Code::kCorrupt, "its hard link target does not exist in the layer");
    }
    at = found->second.node;
  }
  return at;
}

Result<LayerTree::Applied> LayerTree::apply(const TarEntry& entry) {
  const auto path = SM_TRY(safe_path(entry.path));
  const auto name = path.empty() ? std::string_view() : path.back();
  if (name.starts_with(kAufsPrefix) && name != kOpaqueMarker) return Applied{};
  if (name == kOpaqueMarker) {
    const auto parent = SM_TRY(open_parent(path));
    node_at(parent).opaque = true;
    return Applied{};
  }
  if (name.starts_with(kWhiteoutPrefix)) {
    SM_TRY_STATUS(apply_whiteout(path, name.substr(kWhiteoutPrefix.size())));
    return Applied{};
  }
  // What overlayfs itself takes for a whiteout.
  if (entry.kind == TarKind::kCharDevice && entry.device_major == 0 && entry.device_minor == 0 &&
      !path.empty()) {
    SM_TRY_STATUS(apply_whiteout(path, name));
    return Applied{};
  }
  if (entry.kind == TarKind::kHardLink) {
    SM_TRY_STATUS(apply_hard_link(path, entry));
    return Applied{};
  }
  if (entry.kind == TarKind::kDirectory) return apply_directory(path, entry);
  if (is_leaf_kind(entry.kind)) return apply_leaf(path, entry);
  ++notes_.special_entries;
  return Applied{};
}

Result<LayerTree::Applied> LayerTree::apply_directory(const SafePath& path, const TarEntry& entry) {
  if (path.empty()) {
    SM_TRY_STATUS(describe(node_at(root()), entry));
    return Applied{};
  }
  const auto parent = SM_TRY(open_parent(path));
  auto& child = node_at(parent).children.try_emplace(std::string(path.back())).first->second;
  if (child.node == NodeId::kNone || node(child.node).kind != NodeKind::kDirectory) {
    child.node = SM_TRY(add_node(NodeKind::kDirectory));
  }
  SM_TRY_STATUS(describe(node_at(child.node), entry));
  return Applied{};
}

Result<LayerTree::Applied> LayerTree::apply_leaf(const SafePath& path, const TarEntry& entry) {
  if (path.empty()) return fail(Code::kCorrupt, "it would replace the root directory");
  const auto parent = SM_TRY(open_parent(path));
  const auto id = SM_TRY(add_node(node_kind(entry.kind)));
  auto& made = node_at(id);
  SM_TRY_STATUS(describe(made, entry));
  if (made.kind == NodeKind::kSymlink) {
    if (entry.link_target.empty()) return fail(Code::kCorrupt, "its symbolic link has no target");
    if (entry.link_target.size() > kMaxSymlinkTarget) {
      return fail(Code::kLimit, "its symbolic link target is longer than 4095 bytes");
    }
    made.mode = 0777;
    made.target = entry.link_target;
  }
  if (made.kind == NodeKind::kCharDevice || made.kind == NodeKind::kBlockDevice) {
    made.device = SM_TRY(device_number(entry));
  }
  node_at(parent).children[std::string(path.back())].node = id;
  return Applied{made.kind == NodeKind::kFile ? id : NodeId::kNone};
}

Status LayerTree::apply_hard_link(const SafePath& path, const TarEntry& entry) {
  if (path.empty()) return fail(Code::kCorrupt, "it would replace the root directory");
  auto target_path = safe_path(entry.link_target);
  if (!target_path) {
    return fail(target_path.error().code(), "its hard link target \"" +
                                                printable(entry.link_target) +
                                                "\" is not a path inside of the image");
  }
  const auto target = SM_TRY(find(*target_path));
  if (node(target).kind == NodeKind::kDirectory) {
    return fail(Code::kCorrupt, "its hard link target is a directory");
  }
  const auto parent = SM_TRY(open_parent(path));
  SM_TRY_STATUS(charge());
  node_at(parent).children[std::string(path.back())].node = target;
  return {};
}

Status LayerTree::apply_whiteout(const SafePath& path, std::string_view hidden) {
  if (hidden.empty() || hidden == "." || hidden == "..") {
    return fail(Code::kCorrupt, "its whiteout names no file");
  }
  const auto parent = SM_TRY(open_parent(path));
  SM_TRY_STATUS(charge());
  node_at(parent).children[std::string(hidden)].whiteout = true;
  return {};
}

Status LayerTree::describe(Node& node, const TarEntry& entry) {
  node.implicit = false;
  node.mode = entry.mode & 07777U;
  node.uid = SM_TRY(owner_id(entry.uid));
  node.gid = SM_TRY(owner_id(entry.gid));
  node.mtime = clamp_time(entry.mtime);
  node.xattrs = SM_TRY(store_xattrs(entry));
  if (entry.has_acl) ++notes_.acls;
  return {};
}

Result<std::uint32_t> LayerTree::store_xattrs(const TarEntry& entry) {
  XattrSet set;
  for (const auto& [name, value] : entry.xattrs) {
    if (name.starts_with("system.posix_acl_")) {
      ++notes_.acls;
      continue;
    }
    if (!is_storable_xattr(name)) {
      ++notes_.foreign_xattrs;
      continue;
    }
    if (name.size() > kMaxXattrName || value.size() > kMaxXattrValue || name.ends_with('.')) {
      return fail(Code::kLimit,
                  "its extended attribute \"" + printable(name, 60) + "\" is out of bounds");
    }
    xattr_bytes_ += name.size() + value.size() + kXattrOverhead;
    set.emplace(name, value);
  }
  if (xattr_bytes_ > limits_.max_xattr_bytes) {
    return fail(Code::kLimit, "the layer has more than " + std::to_string(limits_.max_xattr_bytes) +
                                  " bytes of extended attributes");
  }
  if (set.empty()) return 0U;
  xattr_sets_.push_back(std::move(set));
  return static_cast<std::uint32_t>(xattr_sets_.size());
}

void LayerTree::settle(Position position) {
  struct Step {
    NodeId dir;
    bool isolated;  // nothing of lower layers shows here
  };
  std::vector<Step> pending{{root(), position == Position::kBase}};
  while (!pending.empty()) {
    const auto step = pending.back();
    pending.pop_back();
    auto& dir = node_at(step.dir);
    if (step.isolated) dir.opaque = false;
    const bool inside_isolated = step.isolated || dir.opaque;
    for (auto it = dir.children.begin(); it != dir.children.end();) {
      auto& child = it->second;
      if (child.node == NodeId::kNone && inside_isolated) {
        it = dir.children.erase(it);
        continue;
      }
      if (child.node != NodeId::kNone && node(child.node).kind == NodeKind::kDirectory) {
        // A whiteout beside a directory of the same name hides the lower directory's content.
        if (child.whiteout) node_at(child.node).opaque = true;
        pending.push_back({child.node, inside_isolated});
      }
      if (child.node != NodeId::kNone) child.whiteout = false;
      ++it;
    }
  }
}

Status LayerTree::merge(LayerTree&& upper) {
  upper.settle(Position::kAbove);
  const auto node_base = static_cast<std::uint32_t>(nodes_.size());
  const auto xattr_base = static_cast<std::uint32_t>(xattr_sets_.size());
  names_ += upper.names_;
  xattr_bytes_ += upper.xattr_bytes_;
  if (names_ > limits_.max_names || xattr_bytes_ > limits_.max_xattr_bytes) {
    return fail(Code::kLimit, "the layers to merge have more than " +
                                  std::to_string(limits_.max_names) +
                                  " files or too many attributes");
  }
  for (auto& node : upper.nodes_) {
    for (auto& [name, child] : node.children) {
      if (child.node == NodeId::kNone) continue;
      child.node = static_cast<NodeId>(static_cast<std::uint32_t>(child.node) + node_base);
    }
    if (node.xattrs != 0) node.xattrs += xattr_base;
    nodes_.push_back(std::move(node));
  }
  std::move(upper.xattr_sets_.begin(), upper.xattr_sets_.end(), std::back_inserter(xattr_sets_));
  notes_.acls += upper.notes_.acls;
  notes_.foreign_xattrs += upper.notes_.foreign_xattrs;
  notes_.special_entries += upper.notes_.special_entries;

  std::vector<std::pair<NodeId, NodeId>> pending{{root(), static_cast<NodeId>(node_base)}};
  while (!pending.empty()) {
    const auto [lower_dir, upper_dir] = pending.back();
    pending.pop_back();
    merge_directory(lower_dir, upper_dir, pending);
  }
  return {};
}

void LayerTree::merge_directory(NodeId lower, NodeId upper,
                                std::vector<std::pair<NodeId, NodeId>>& pending) {
  SM_CHECK(lower != upper);
  auto& to = node_at(lower);
  auto& from = node_at(upper);
  if (from.opaque) to.children.clear();
  // A directory that no entry describes says nothing about its attributes.
  if (!from.implicit) {
    to.implicit = false;
    to.mode = from.mode;
    to.uid = from.uid;
    to.gid = from.gid;
    to.mtime = from.mtime;
    to.xattrs = from.xattrs;
  }
  for (auto& [name, child] : from.children) {
    if (child.node == NodeId::kNone) {
      to.children.erase(name);
      continue;
    }
    auto& place = to.children[name];
    const bool both_directories = place.node != NodeId::kNone &&
                                  node(place.node).kind == NodeKind::kDirectory &&
                                  node(child.node).kind == NodeKind::kDirectory;
    if (both_directories) {
      pending.emplace_back(place.node, child.node);
    } else {
      place.node = child.node;
    }
  }
  from.children.clear();
}

}  // namespace sm
