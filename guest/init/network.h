// The network before there is a network card: loopback, and one dummy interface with an address so
// that getaddrinfo(AI_ADDRCONFIG) answers for IPv4.
#pragma once

namespace sm::guest {

// Best effort: a guest without these interfaces still works.
void bring_up_network();

}  // namespace sm::guest
