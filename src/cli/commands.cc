#include "cli/commands.h"

#include "cli/docker_flags.h"
#include "cli/examples.h"
#include "cli/vm_commands.h"

namespace sm {

void add_commands(Command& app, Action& chosen) {
  add_run(app, chosen);
  add_create(app, chosen);
  add_vm_commands(app, chosen);
  add_images(app, chosen, "images");
  add_pull(app, chosen);
  add_push(app, chosen);
  add_rmi(app, chosen, "rmi");
  add_tag(app, chosen);
  add_inspect(app, chosen);
  add_history(app, chosen);
  add_save(app, chosen);
  add_load(app, chosen);
  add_image(app, chosen);
  add_system(app, chosen);
  add_doctor(app, chosen);
  add_bake(app, chosen);
  add_restore(app, chosen);
  add_pool(app, chosen);
  add_snapshot(app, chosen);
  add_version(app, chosen);
  add_completion(app, chosen);
  add_document(app, chosen);
  add_examples(app);
  for (const char* starter : {"run", "create"}) {
    if (Command* command = app.find(starter)) command->refuse(refused_run_options());
  }
}

}  // namespace sm
