// The whole C++ interface of supermachine: OCI images as microVMs. See
// docs/howto/use-the-library.md.
#pragma once

#include <supermachine/bake.h>
#include <supermachine/context.h>
#include <supermachine/error.h>
#include <supermachine/exec.h>
#include <supermachine/image.h>
#include <supermachine/pool.h>
#include <supermachine/vm.h>
