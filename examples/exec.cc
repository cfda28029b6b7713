// exec IMAGE: input, a time limit, staged files with chained commands, and a program that is read
// while it runs. Errors as values.
#include <supermachine/supermachine.h>

#include <chrono>
#include <iostream>

namespace sm = supermachine;

namespace {

int complain(const sm::Error& error) {
  std::cerr << sm::error_code_name(error.code()) << ": " << error.text() << "\n";
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: exec IMAGE\n";
    return 2;
  }
  auto context = sm::Context::create();
  if (!context) return complain(context.error());
  auto image = sm::Image::builder(*context, argv[1]).memory_mib(128).env("GREETING", "hi").build();
  if (!image) return complain(image.error());
  auto vm = image->start();
  if (!vm) return complain(vm.error());

  // Input, and environment of one program.
  auto sorted = vm->exec_builder()
                    .argv({"sh", "-c", "echo $GREETING $NAME; sort"})
                    .env("NAME", "there")
                    .stdin_bytes("b\na\n")
                    .output();
  if (!sorted) return complain(sorted.error());
  std::cout << sorted->out;

  // A time limit: the program and all its children are killed.
  auto slow =
      vm->exec_builder().argv({"sleep", "1000"}).timeout(std::chrono::milliseconds(200)).output();
  if (!slow) return complain(slow.error());
  std::cout << "timed out: " << (slow->timed_out ? "yes" : "no") << "\n";

  // A script and the commands that use it, in one round trip; `false` ends the chain.
  auto chained = vm->exec_builder()
                     .stage_file("/tmp/script", "#!/bin/sh\necho \"script $1\"\n", 0755)
                     .argv({"/tmp/script", "one"})
                     .chain({"/tmp/script", "two"})
                     .chain({"false"})
                     .chain({"/tmp/script", "never"})
                     .output();
  if (!chained) return complain(chained.error());
  std::cout << chained->out << "ended at step " << chained->step << " with status " << chained->code
            << "\n";

  // A program that is talked to while it runs.
  auto child = vm->exec_builder().argv({"cat"}).keep_stdin().spawn();
  if (!child) return complain(child.error());
  if (auto sent = child->write_stdin("echoed\n"); !sent) return complain(sent.error());
  auto line = child->read_stdout();
  if (!line) return complain(line.error());
  std::cout << *line;
  if (auto closed = child->close_stdin(); !closed) return complain(closed.error());
  auto status = child->wait();
  if (!status) return complain(status.error());

  // What is not there is an error of its own.
  auto missing = vm->run({"no-such-program"});
  std::cout << sm::error_code_name(missing.error().code()) << "\n";
  return status->code;
}
