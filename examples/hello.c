/* hello-c IMAGE: runs a command in a microVM, in C. */
#include <stdio.h>
#include <supermachine/c/supermachine.h>

static int complain(supermachine_error* error) {
  fprintf(stderr, "%s\n", supermachine_error_get_cause(error));
  supermachine_error_free(error);
  return 1;
}

int main(int argc, char** argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: hello-c IMAGE\n");
    return 2;
  }
  supermachine_error* error = NULL;
  supermachine_context* context = supermachine_context_new(NULL, &error);
  if (context == NULL) return complain(error);
  int status = 1;
  supermachine_image* image = supermachine_image_from_oci(context, argv[1], &error);
  supermachine_vm* vm = image == NULL ? NULL : supermachine_vm_start(image, NULL, &error);
  if (vm == NULL) {
    status = complain(error);
  } else {
    const char* const command[] = {"sh", "-c", "cat; echo from C", NULL};
    supermachine_exec* exec = supermachine_exec_new(vm, command);
    supermachine_exec_stdin(exec, "hello ", 6);
    supermachine_outcome* outcome = supermachine_exec_output(exec, &error);
    if (outcome == NULL) {
      status = complain(error);
    } else {
      fputs(supermachine_outcome_stdout(outcome, NULL), stdout);
      status = supermachine_outcome_status(outcome);
    }
    supermachine_outcome_free(outcome);
    supermachine_exec_free(exec);
  }
  supermachine_vm_free(vm);
  supermachine_image_free(image);
  supermachine_context_free(context);
  return status;
}
