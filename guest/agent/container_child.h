// Container settings (proto/container.h) as they are made true by the child that becomes the main
// workload, and by the children of later execs. Only in a child; every failure ends it with its
// report.
#pragma once

#include <string>

#include "common/user_db.h"
#include "proto/container.h"

namespace sm::guest {

// As root, first of all: names, mounts, kernel settings, the limit of processes. All but the root's
// being read-only.
void prepare_machine(const agent::MachineSettings& settings, const std::string& hostname);
// Behind the last change that we make to the root ourselves.
void seal_root(const agent::MachineSettings& settings);

// As root: the resources' limits, and what capabilities may ever be had from here on.
void limit_process(const agent::ProcessSettings& settings);
// As the user, last of all: the capabilities that are left to root, and no new privileges.
void give_up_privileges(const agent::ProcessSettings& settings, uid_t uid);

}  // namespace sm::guest
