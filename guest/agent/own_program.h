// The agent's own programs: what the host asks for in every image, whatever programs that has. They
// run in a child of the agent, as root, with the streams, signals and the end of any exec. Only in
// a child.
#pragma once

#include <string>
#include <vector>

#include "agent/child.h"

namespace sm::guest {

using Arguments = std::vector<std::string>;

// plan.argv is the program's name and its arguments. kExecNotFound when there is no such one.
[[noreturn]] void run_own_program(const ExecPlan& plan, const ChildDescriptors& descriptors);

// Each gives the exit status; what is wrong is said on standard error.

// pack FOLDER NAME: a tar of FOLDER/NAME on standard output, whose names begin with NAME. Links are
// packed, not followed, but for FOLDER; devices, FIFOs and sockets are left out.
int pack_main(const Arguments& arguments);
// unpack FOLDER: the tar on standard input into FOLDER. Files are replaced, not written through;
// owners and modes are the archive's. Names with "..", and devices, end it.
int unpack_main(const Arguments& arguments);
// processes COLUMN...: a table of all processes but the kernel's, init and the agent's.
int processes_main(const Arguments& arguments);

// One line on standard error. The errno's text follows unless it is 0.
void complain(const std::string& what, int errno_value = 0);

}  // namespace sm::guest
