// The pieces that a root is made of, for init, which puts it above a tmpfs, and for the agent,
// which puts it above a disk. Root's rights needed.
//
// The layers are file systems mounted on the folders 0, 1, ... (base first) of one folder, which
// must be the working directory of whoever calls the first two: paths are relative to it.
#pragma once

#include <cstddef>
#include <string>

#include "base/result.h"

namespace sm::guest {

// Makes UPPER/data and UPPER/work in a file system that is mounted on `upper`, when they are not
// there yet. What data/ is made with are the attributes of the image's own root.
Status prepare_upper(const std::string& upper, std::size_t layers);
// Joins the layers with UPPER/data, where all changes go, on the folder `target`.
Status mount_overlay(std::size_t layers, const std::string& upper, const std::string& target);

// Moves /proc, /sys and /dev with all below them to where they belong in `root`, a folder's
// descriptor. Mount points that are missing are made; a link in the place of one is refused.
Status take_views(int root);
// Makes `root`, the top of a mount, "/" of this process, above what was there.
Status make_root(int root);

}  // namespace sm::guest
