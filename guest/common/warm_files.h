// Files of the image that nearly every command begins with: its shell, the loader of programs, the
// C library.
#pragma once

namespace sm::guest {

// Has the kernel read what is there of them below `root`, a folder. In a machine that is saved
// next, every copy of it finds them in its memory. Blocks; what cannot be read is left out.
void warm_files(int root);

}  // namespace sm::guest
