// Writes the inodes, directories and tables of a squashfs image from a LayerTree. Internal to oci/;
// one use per object, one thread.
#pragma once

#include <sqfs/super.h>

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "oci/layer_tree.h"
#include "oci/squashfs_sys.h"

namespace sm {

class SquashfsTree {
 public:
  // `files` are the data inodes by FileId; their metadata is filled in here.
  SquashfsTree(const LayerTree& tree, std::span<const SqfsInode> files, SquashfsFile& file,
               sqfs_compressor_t* compressor);

  // Writes inode, directory, id and xattr tables and sets their places in `super`. Fragments go
  // between them as the format wants it.
  Status write(sqfs_super_t& super, sqfs_frag_table_t* fragments);

 private:
  struct Place {
    std::uint32_t number = 0;  // inode number, from 1 on; 0: not reached
    std::uint32_t links = 0;   // names that lead here; of directories: 2 and one per subdirectory
    std::uint64_t reference = 0;
    bool written = false;
  };

  Place& place(NodeId id) { return places_[static_cast<std::uint32_t>(id)]; }
  Status create_writers();
  Status number_nodes();
  Status write_directories();
  Status write_directory(NodeId id, NodeId parent);
  Status write_leaf(NodeId id);
  Status add_whiteout_inode();
  Result<SqfsInode> leaf_inode(const Node& node) const;
  Status put_inode(sqfs_inode_generic_t& inode, const Node& node, Place& at);
  Result<std::uint32_t> xattr_index(const Node& node);

  const LayerTree& tree_;
  std::span<const SqfsInode> files_;
  SquashfsFile& file_;
  sqfs_compressor_t* compressor_;
  std::vector<Place> places_;
  Place whiteout_;  // one inode for all whiteouts
  std::vector<std::pair<std::uint32_t, std::uint32_t>> xattr_cache_;
  std::uint32_t next_number_ = 1;
  SqfsPtr<sqfs_meta_writer_t> inode_writer_;
  SqfsPtr<sqfs_meta_writer_t> directory_meta_;
  SqfsPtr<sqfs_dir_writer_t> directory_writer_;
  SqfsPtr<sqfs_id_table_t> ids_;
  SqfsPtr<sqfs_xattr_writer_t> xattrs_;
};

}  // namespace sm
