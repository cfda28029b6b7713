// hello IMAGE: runs a command in a microVM.
#include <supermachine/supermachine.h>

#include <iostream>

namespace sm = supermachine;

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: hello IMAGE, such as oci:./busybox\n";
    return 2;
  }
  try {
    sm::Context context = sm::Context::create().value();
    sm::Image image = sm::Image::from_oci(context, argv[1]).value();
    sm::Vm vm = image.start().value();
    sm::ExecOutcome outcome = vm.run({"uname", "-s"}).value();
    std::cout << "hello from " << outcome.out;
    return outcome.code;
  } catch (const sm::Failure& failure) {
    std::cerr << failure.what() << "\n";
    return 1;
  }
}
