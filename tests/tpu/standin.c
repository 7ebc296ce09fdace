/* A TPU for tests: a TFLite delegate that claims a model's operators, computes them with their own kernels, and fails when told to.
 *
 * No package ships the C headers, so the part of the ABI that a delegate sees is mirrored here (TFLite 2.5 to LiteRT 2.3,
 * c/common.h). Structs that the runtime reads are larger than ours in some versions: they are over-allocated and zero.
 *
 * Options: `plan`, a file of `struct plan` that the test writes and reads while this runs, in whichever process; `claim`, "all"
 * (default: every operator, computed bit for bit as the runtime would) or "custom" (edgetpu-custom-op alone, which copies its
 * inputs, laid side by side, to its output).
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct { int size; int data[]; } IntArray;
typedef struct { int type; void *data; IntArray *dims; struct { float scale; int32_t zero; } params; int allocation; size_t bytes; } Tensor;

typedef struct Context Context;
typedef struct Node Node;
typedef struct Delegate Delegate;

typedef struct {
  void *(*init)(Context *, const char *, size_t);
  void (*free)(Context *, void *);
  int (*prepare)(Context *, Node *);
  int (*invoke)(Context *, Node *);
  const char *(*profiling)(const Context *, const Node *);
  int32_t builtin_code;
  const char *custom_name;
  int version;
  void *external, *async_kernel;
  uint64_t inplace;
  char spare[128];
} Registration;

struct Node {
  IntArray *inputs, *outputs, *intermediates, *temporaries;
  void *user_data, *builtin_data;
  const void *custom_data;
  int custom_size;
  Delegate *delegate;
};

struct Context {
  size_t tensors_size;
  int (*plan)(Context *, IntArray **);
  char *tensors; /* of structs whose size the versions do not agree on: see tensor_at */
  void *impl;
  int (*resize)(Context *, Tensor *, IntArray *);
  void (*report)(Context *, const char *, ...);
  int (*add)(Context *, int, int *);
  int (*node)(Context *, int, Node **, Registration **);
  int (*replace)(Context *, Registration, const IntArray *, Delegate *);
};

struct Delegate {
  void *data;
  int (*prepare)(Context *, Delegate *);
  void *copy_from, *copy_to, *free_handle;
  int64_t flags;
  void *opaque;
  char spare[128];
};

typedef struct { Delegate *delegate; IntArray *replaced, *inputs, *outputs; } Part;

enum { NONE, ABORT, HANG, FAIL, LIE, SEGFAULT, SLOW, REFUSE };
struct plan {
  int32_t call, after;  /* the fault at a call, and how many calls go well before it */
  int32_t lasting;      /* it does not go away by having happened */
  int32_t slow_us;      /* what SLOW takes; every call takes pace_us */
  int32_t pace_us;
  int32_t load;         /* the fault at loading, lasting */
  int32_t devices;      /* that edgetpu_list_devices finds */
  int32_t calls, loads, fired;  /* counted here */
};
static struct plan nothing, *plan = &nothing;
static int custom_only;

/* Whoever asked for it must see no core file and no message but the fault itself. */
static int strike(int fault) {
  switch (fault) {
    case ABORT: static const char last[] = "F stand-in: the device is gone\n";
      if (write(2, last, sizeof last - 1) < 0) _exit(1);
      abort();
    case HANG: for (;;) pause();
    case SEGFAULT: *(volatile int *)8 = 1; return 1;
    case SLOW: usleep((useconds_t)plan->slow_us); return 0;
  }
  return 0;
}

typedef struct { int index; size_t bytes; void *data; } Owned;
typedef struct { int count, owned_count; Node **nodes; Registration *registrations; Owned *owned; } Kernel;

/* sizeof(TfLiteTensor) differs; a tensor's own dims and bytes tell where the next one begins: measured once. */
static size_t stride;
static Tensor *tensor_at(Context *context, int index) { return (Tensor *)(context->tensors + stride * (size_t)index); }

/* A candidate is right if every tensor has a sane shape and type there. Pointers are compared, not followed, until they look alike. */
static size_t find_stride(Context *context) {
  for (size_t size = sizeof(Tensor); size <= 512; size += 8) {
    size_t sane = 0;
    for (; sane < context->tensors_size && sane < 8; sane++) {
      Tensor *tensor = (Tensor *)(context->tensors + size * sane);
      if (tensor->type < 0 || tensor->type > 32 || tensor->allocation < 0 || tensor->allocation > 16) break;
      if (((uintptr_t)tensor->dims & 3) || (uintptr_t)tensor->dims < 4096 || tensor->bytes > (1u << 30)) break;
    }
    if (sane == context->tensors_size || sane == 8) return size;
  }
  return 0;
}

static void *kernel_init(Context *context, const char *buffer, size_t length) {
  (void)length;
  const Part *part = (const Part *)buffer;
  Kernel *kernel = calloc(1, sizeof *kernel);
  kernel->count = part->replaced->size;
  kernel->nodes = calloc((size_t)kernel->count, sizeof *kernel->nodes);
  kernel->registrations = calloc((size_t)kernel->count, sizeof *kernel->registrations);
  for (int i = 0; i < kernel->count; i++) {
    Registration *registration;
    if (context->node(context, part->replaced->data[i], &kernel->nodes[i], &registration)) return NULL;
    memcpy(&kernel->registrations[i], registration, offsetof(Registration, external));
  }
  return kernel;
}

static void kernel_free(Context *context, void *data) {
  (void)context;
  Kernel *kernel = data;
  for (int i = 0; i < kernel->owned_count; i++) free(kernel->owned[i].data);
  free(kernel->owned);
  free(kernel->nodes);
  free(kernel->registrations);
  free(kernel);
}

static void own(Kernel *kernel, Context *context, int index) {
  size_t bytes = tensor_at(context, index)->bytes;
  kernel->owned = realloc(kernel->owned, sizeof(Owned) * (size_t)(kernel->owned_count + 1));
  kernel->owned[kernel->owned_count++] = (Owned){index, bytes, aligned_alloc(64, (bytes + 127) & ~(size_t)63)};
}

static int contains(const IntArray *array, int value) {
  for (int i = 0; array && i < array->size; i++)
    if (array->data[i] == value) return 1;
  return 0;
}

/* Tensors between our operators are in no plan of the runtime's any more, and neither is what they need to scratch on: it is ours. */
static int kernel_prepare(Context *context, Node *node) {
  Kernel *kernel = node->user_data;
  if (custom_only) return 0;
  for (int i = 0; i < kernel->count; i++)
    if (kernel->registrations[i].prepare && kernel->registrations[i].prepare(context, kernel->nodes[i])) return 1;
  for (int i = 0; i < kernel->count; i++) {
    const IntArray *lists[] = {kernel->nodes[i]->outputs, kernel->nodes[i]->temporaries};
    for (int j = 0; j < 2; j++)
      for (int k = 0; lists[j] && k < lists[j]->size; k++)
        if (!contains(node->outputs, lists[j]->data[k])) own(kernel, context, lists[j]->data[k]);
  }
  return 0;
}

static int copy_through(Context *context, Node *node) {
  char *to = tensor_at(context, node->outputs->data[0])->data;
  for (int i = 0; i < node->inputs->size; i++) {
    Tensor *from = tensor_at(context, node->inputs->data[i]);
    memcpy(to, from->data, from->bytes);
    to += from->bytes;
  }
  return 0;
}

static int kernel_invoke(Context *context, Node *node) {
  Kernel *kernel = node->user_data;
  __atomic_add_fetch(&plan->calls, 1, __ATOMIC_SEQ_CST);
  int fault = NONE;
  if (plan->call && plan->after-- <= 0) {
    fault = plan->call;
    plan->after = 0;
    if (!plan->lasting) plan->call = NONE;
    __atomic_add_fetch(&plan->fired, 1, __ATOMIC_SEQ_CST);
  }
  if (plan->pace_us) usleep((useconds_t)plan->pace_us);
  if (strike(fault)) return 1;
  if (fault == FAIL) {
    context->report(context, "stand-in: failed as it was told");
    return 1;
  }
  for (int i = 0; i < kernel->owned_count; i++) {
    Tensor *tensor = tensor_at(context, kernel->owned[i].index);
    tensor->data = kernel->owned[i].data;
    tensor->bytes = kernel->owned[i].bytes;
  }
  if (custom_only) copy_through(context, node);
  for (int i = 0; !custom_only && i < kernel->count; i++)
    if (kernel->registrations[i].invoke(context, kernel->nodes[i])) return 1;
  if (fault == LIE) {
    Tensor *output = tensor_at(context, node->outputs->data[0]);
    for (size_t i = 0; i < output->bytes; i++) ((unsigned char *)output->data)[i] ^= 0x55;
  }
  return 0;
}

static const char *kernel_name(const Context *context, const Node *node) { (void)context, (void)node; return "stand-in"; }

static int delegate_prepare(Context *context, Delegate *delegate) {
  IntArray *order;
  if (context->plan(context, &order)) return 1;
  if (!(stride = find_stride(context))) return 1;
  IntArray *claimed = malloc(sizeof(IntArray) + (size_t)order->size * sizeof(int));
  claimed->size = 0;
  for (int i = 0; i < order->size; i++) {
    Node *node;
    Registration *registration;
    if (context->node(context, order->data[i], &node, &registration)) return 1;
    int custom = registration->custom_name && !strcmp(registration->custom_name, "edgetpu-custom-op");
    if (custom == custom_only) claimed->data[claimed->size++] = order->data[i];
  }
  Registration ours;
  memset(&ours, 0, sizeof ours);
  ours.init = kernel_init;
  ours.free = kernel_free;
  ours.prepare = kernel_prepare;
  ours.invoke = kernel_invoke;
  ours.profiling = kernel_name;
  ours.custom_name = "stand-in";
  ours.version = 1;
  int status = context->replace(context, ours, claimed, delegate);
  free(claimed);
  return status;
}

Delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count, void (*error)(const char *)) {
  for (size_t i = 0; i < count; i++) {
    if (!strcmp(keys[i], "claim")) custom_only = !strcmp(values[i], "custom");
    if (!strcmp(keys[i], "plan")) {
      int file = open(values[i], O_RDWR | O_CLOEXEC);
      if (file < 0) return NULL;
      plan = mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
      close(file);
      if (plan == MAP_FAILED) return NULL;
    }
  }
  __atomic_add_fetch(&plan->loads, 1, __ATOMIC_SEQ_CST);
  if (strike(plan->load)) return NULL;
  if (plan->load == REFUSE) {
    error("stand-in: refuses as it was told");
    return NULL;
  }
  Delegate *delegate = calloc(1, sizeof *delegate);
  delegate->prepare = delegate_prepare;
  delegate->flags = 1;
  return delegate;
}

void tflite_plugin_destroy_delegate(Delegate *delegate) { free(delegate); }

/* libedgetpu's own functions, for the list of devices. */
typedef struct { int type; const char *path; } Device;
const char *edgetpu_version(void) { return "stand-in for tests"; }
Device *edgetpu_list_devices(size_t *count) {
  *count = (size_t)plan->devices;
  Device *devices = calloc(*count + 1, sizeof *devices);
  for (size_t i = 0; i < *count; i++) devices[i] = (Device){1, "/sys/bus/usb/devices/9-9"};
  return devices;
}
void edgetpu_free_devices(Device *devices) { free(devices); }
