/* The least that a question to another process and its answer take here: two processes, two pipes, nothing to compute.
 *
 *     floor CALLS PAUSE_US LOOK_US      prints the microseconds of each
 *
 * LOOK_US: how long the one that asks looks for the answer, letting others have the processor in between, before it sleeps.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static double now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

int main(int count, char **words) {
  if (count != 4) return 2;
  long calls = atol(words[1]), pause_us = atol(words[2]), look_us = atol(words[3]);
  int asks[2], answers[2];
  char byte = 'x';
  if (pipe(asks) || pipe(answers)) return 1;
  pid_t child = fork();
  if (child < 0) return 1;
  if (!child) {
    close(asks[1]), close(answers[0]);
    while (read(asks[0], &byte, 1) == 1)
      if (write(answers[1], &byte, 1) != 1) break;
    _exit(0);
  }
  close(asks[0]), close(answers[1]);
  struct pollfd answer = {answers[0], POLLIN, 0};
  for (long call = -50; call < calls; call++) {
    if (pause_us) usleep((useconds_t)pause_us);
    double began = now_us();
    if (write(asks[1], &byte, 1) != 1) return 1;
    for (double ends = began + (double)look_us; look_us && !poll(&answer, 1, 0) && now_us() < ends;) sched_yield();
    if (read(answers[0], &byte, 1) != 1) return 1;
    double took = now_us() - began;
    if (call >= 0) printf("%.2f\n", took);
  }
  return 0;
}
