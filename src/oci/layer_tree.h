// LayerTree: what one layer (or several merged ones) says about the file tree, in memory. Entries
// are applied in the order of the archive under the rules of docs/design/0003. One thread at a
// time.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "oci/safe_path.h"
#include "oci/tar_reader.h"

namespace sm {

enum class NodeId : std::uint32_t { kNone = 0xFFFFFFFF };
// Names the data of a regular file; given out by whoever stores the data.
enum class FileId : std::uint32_t { kNone = 0xFFFFFFFF };

enum class NodeKind : std::uint8_t {
  kFile,
  kDirectory,
  kSymlink,
  kCharDevice,
  kBlockDevice,
  kFifo,
};

using XattrSet = std::map<std::string, std::string>;

// A name in a directory. Without a node it is a whiteout and hides the name in lower layers.
struct Child {
  NodeId node = NodeId::kNone;
  bool whiteout = false;
};

// One inode; several names may lead to it unless it is a directory.
struct Node {
  NodeKind kind = NodeKind::kFile;
  bool implicit = false;  // a directory that no entry describes
  bool opaque = false;    // a directory that hides what lower layers have in it
  std::uint32_t mode = 0;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint32_t mtime = 0;
  std::uint32_t device = 0;  // as the kernel packs it: new_encode_dev()
  std::uint32_t xattrs = 0;  // 0: none, else 1 + index into the tree's sets
  FileId file = FileId::kNone;
  std::string target;  // of symlinks
  std::map<std::string, Child, std::less<>> children;
};

// What converting a layer may cost. Limits of the format and of the host's memory.
struct TreeLimits {
  std::uint64_t max_names = 2'000'000;         // files, directories, links; about 500 bytes each
  std::uint64_t max_xattr_bytes = 64U << 20U;  // of all entries together
};

// Things that were left out on purpose; people may want to know.
struct TreeNotes {
  std::uint64_t acls = 0;             // squashfs has no room for POSIX ACLs
  std::uint64_t foreign_xattrs = 0;   // namespaces squashfs cannot carry, overlay's own marks
  std::uint64_t special_entries = 0;  // sockets and unknown kinds
};

class LayerTree {
 public:
  explicit LayerTree(TreeLimits limits = {});

  // Applies one entry. True when it is a regular file: the caller then stores the data and names it
  // with set_file(). The error's cause is a predicate without the entry's name.
  struct Applied {
    NodeId file_node = NodeId::kNone;
  };
  Result<Applied> apply(const TarEntry& entry);
  void set_file(NodeId node, FileId file) { node_at(node).file = file; }

  // Lays a later layer over this one: whiteouts delete, opaque directories replace. The trees must
  // share the store of file data.
  Status merge(LayerTree&& upper);

  // Brings whiteouts into the form that the writer stores, after the last entry. In a base nothing
  // lies below: all of them vanish. Below an opaque directory they mean nothing and vanish too.
  enum class Position : std::uint8_t { kBase, kAbove };
  void settle(Position position);

  NodeId root() const { return NodeId{0}; }
  const Node& node(NodeId id) const { return nodes_[static_cast<std::uint32_t>(id)]; }
  std::size_t node_count() const { return nodes_.size(); }
  const std::vector<XattrSet>& xattr_sets() const { return xattr_sets_; }
  const TreeNotes& notes() const { return notes_; }

 private:
  Node& node_at(NodeId id) { return nodes_[static_cast<std::uint32_t>(id)]; }
  Status charge();
  Result<NodeId> add_node(NodeKind kind);
  Result<NodeId> open_parent(const SafePath& path);
  Result<NodeId> find(const SafePath& path) const;

  Result<Applied> apply_directory(const SafePath& path, const TarEntry& entry);
  Result<Applied> apply_leaf(const SafePath& path, const TarEntry& entry);
  Status apply_hard_link(const SafePath& path, const TarEntry& entry);
  Status apply_whiteout(const SafePath& path, std::string_view hidden);
  Status describe(Node& node, const TarEntry& entry);
  Result<std::uint32_t> store_xattrs(const TarEntry& entry);
  void merge_directory(NodeId lower, NodeId upper, std::vector<std::pair<NodeId, NodeId>>& pending);

  TreeLimits limits_;
  std::deque<Node> nodes_;
  std::vector<XattrSet> xattr_sets_;
  std::uint64_t names_ = 0;  // nodes, whiteouts and further links, whether still reachable or not
  std::uint64_t xattr_bytes_ = 0;
  TreeNotes notes_;
};

}  // namespace sm
