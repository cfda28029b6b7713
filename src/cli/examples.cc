#include "cli/examples.h"

#include <vector>

namespace sm {

namespace {

struct CommandExample {
  std::vector<std::string> command;  // its names from the root on
  const char* line;
  const char* text;
};

struct CommandNote {
  std::vector<std::string> command;
  const char* text;
};

const std::vector<CommandExample>& examples() {
  static const std::vector<CommandExample> kExamples = {
      {{}, "supermachine run busybox echo hello", "a command of an image"},
      {{}, "supermachine run -it debian:12 bash", "a shell"},
      {{}, "supermachine run --help", "about one command"},
      {{"run"}, "supermachine run busybox echo hello", "a command of an image"},
      {{"run"}, "supermachine run -it -m 1g --cpus 2 debian:12 bash", "a shell in a larger VM"},
      {{"run"}, "tar c . | supermachine run -i busybox tar t", "files in through standard input"},
      {{"run"}, "supermachine run -d --name web -p 8080:80 nginx", "a service in the background"},
      {{"create"}, "supermachine create --name web -p 8080:80 nginx", "`start web` runs it"},
      {{"ps"}, "supermachine ps -a", "those that have ended as well"},
      {{"ps"}, "supermachine rm $(supermachine ps -aq --filter status=exited)", "for scripts"},
      {{"logs"}, "supermachine logs -f --tail 20 web", "the last lines, and what follows"},
      {{"exec"}, "supermachine exec -it web sh", "a shell in a VM that runs"},
      {{"attach"}, "supermachine attach web", "Ctrl-C goes to the command"},
      {{"start"}, "supermachine start web", "with the same options and name"},
      {{"restart"}, "supermachine restart -t 2 web", "with two seconds to end"},
      {{"stop"}, "supermachine stop web", "the command has ten seconds to end"},
      {{"kill"}, "supermachine kill -s HUP web", "any signal"},
      {{"wait"}, "supermachine wait web", "prints the exit status"},
      {{"pause"}, "supermachine pause web", "keeps its memory, uses no CPU"},
      {{"unpause"}, "supermachine unpause web", "goes on where it was"},
      {{"rm"}, "supermachine rm -f web", "even if it runs"},
      {{"rename"}, "supermachine rename web old-web", "so that `web` is free"},
      {{"port"}, "supermachine port web", "all that are published"},
      {{"cp"}, "supermachine cp web:/etc/nginx ./nginx", "a folder out of a VM"},
      {{"cp"}, "supermachine cp index.html web:/usr/share/nginx/html/", "a file into one"},
      {{"cp"}, "supermachine cp ./site/. web:/usr/share/nginx/html", "what is in a folder"},
      {{"cp"}, "supermachine cp db:/var/lib/postgresql - | zstd > db.tar.zst", "a tar stream"},
      {{"stats"}, "supermachine stats --no-stream", "once"},
      {{"top"}, "supermachine top web", "seen from inside"},
      {{"events"}, "supermachine events", "until Ctrl-C"},
      {{"vm", "prune"}, "supermachine vm prune", "their logs go, too"},
      {{"container", "prune"}, "supermachine container prune", "the same as `vm prune`"},
      {{"images"}, "supermachine images", "all images of the store"},
      {{"images"}, "supermachine images --format json | jq -r .Repository", "for programs"},
      {{"pull"}, "supermachine pull debian:12", "without running it"},
      {{"push"}, "supermachine push localhost:5000/busybox", "after `supermachine tag`"},
      {{"rmi"},
       "supermachine rmi localhost:5000/busybox",
       "a name, and the data when it was the last one"},
      {{"tag"}, "supermachine tag busybox localhost:5000/busybox", "to push it there"},
      {{"inspect"}, "supermachine inspect busybox | jq '.[0].Config.Cmd'", "what it starts"},
      {{"history"}, "supermachine history busybox", "the steps of its making"},
      {{"save"},
       "supermachine save -o busybox.tar busybox",
       "for `docker load` or `supermachine load`"},
      {{"load"}, "supermachine load -i busybox.tar", "what `save` or `docker save` wrote"},
      {{"image", "prune"}, "supermachine image prune -f", "without a question"},
      {{"system", "df"}, "supermachine system df", "what images take"},
      {{"doctor"}, "supermachine doctor", "is there anything that this machine lacks?"},
      {{"bake"}, "supermachine bake --tag web --ready listener nginx", "a server that listens"},
      {{"bake"},
       "supermachine bake -o ./py --warmup 'python3 -c \"import json\"' python:3.12",
       "a folder, warmed up"},
      {{"restore"}, "supermachine restore web curl -s localhost", "a command in a copy of it"},
      {{"pool"}, "supermachine pool --count 4 --cycles 50 busybox", "what a cycle costs here"},
      {{"snapshot", "create"},
       "supermachine snapshot create web web-warm",
       "the VM web as it is now; it goes on"},
      {{"snapshot", "ls"}, "supermachine snapshot ls", "what `run` keeps"},
      {{"snapshot", "inspect"},
       "supermachine snapshot inspect $(supermachine snapshot ls -q)",
       "all of them"},
      {{"snapshot", "verify"},
       "supermachine snapshot verify $(supermachine snapshot ls -q)",
       "all of them"},
      {{"snapshot", "rm"},
       "supermachine snapshot rm --all",
       "the next run of each image boots again"},
      {{"version"}, "supermachine version", "of the program"},
  };
  return kExamples;
}

const std::vector<CommandNote>& notes() {
  static const std::vector<CommandNote> kNotes = {
      {{"images"},
       "Fields of --format json: Repository, Tag, Digest, ID, CreatedAt, Size, Platform."},
      {{"history"}, "Fields of --format json: ID, CreatedAt, CreatedBy, Size, Comment."},
      {{"inspect"},
       "Fields: Id, RepoTags, RepoDigests, Manifest, Created, Author, Os, Architecture, Variant, "
       "Size,\n"
       "Config, RootFS, Layers."},
      {{"image", "prune"}, "Fields of --format json: Untagged, Blobs, Layers, SpaceReclaimed."},
      {{"system", "df"}, "Fields of --format json: Type, TotalCount, Active, Size, Reclaimable."},
      {{"snapshot", "ls"},
       "Fields of --format json: Name, Image, Engine, CpuModel, Cpus, Memory, CreatedAt, Size."},
  };
  return kNotes;
}

// Commands of groups that are, or are named like, one at the top.
struct Twin {
  const char* group;
  const char* verb;
  const char* twin;
};

std::vector<Twin> twins(const Command& app) {
  std::vector<Twin> out = {{"image", "ls", "images"}, {"image", "rm", "rmi"}};
  for (const char* verb : {"pull", "push", "tag", "inspect", "history", "save", "load"}) {
    out.push_back({"image", verb, verb});
  }
  for (const char* group : {"vm", "container"}) {
    out.push_back({group, "ls", "ps"});
    const Command* commands = app.find(group);
    if (commands == nullptr) continue;
    for (const Command* command : commands->get_subcommands()) {
      const char* verb = command->get_name().c_str();
      if (app.find(verb) != nullptr) out.push_back({group, verb, verb});
    }
  }
  return out;
}

}  // namespace

void add_examples(Command& app) {
  for (const auto& example : examples()) {
    Command* command = app.named_by(example.command);
    if (example.command.empty() || command->get_name() == example.command.back())
      command->example(example.line, example.text);
  }
  for (const auto& note : notes()) {
    Command* command = app.named_by(note.command);
    if (command->get_footer().empty()) command->footer(note.text);
  }
  for (const auto& [group, verb, twin] : twins(app)) {
    Command* command = app.named_by({group, verb});
    const Command* other = app.find(twin);
    if (command->is_group() || other == nullptr) continue;
    for (const auto& example : other->examples()) command->example(example.line, example.text);
    if (command->get_footer().empty()) command->footer(other->get_footer());
  }
}

}  // namespace sm
