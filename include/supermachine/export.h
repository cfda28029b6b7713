// SUPERMACHINE_API marks what the shared library exports.
#pragma once

#define SUPERMACHINE_API __attribute__((visibility("default")))
