/*
 * Which workers serve which CPU.
 *
 * A caller waits for its answer, so its CPU is free meanwhile: a worker that
 * runs there answers without waking another core, which costs more than the
 * signature itself (on a virtual machine several times). Workers are therefore
 * pinned, a set of them for each CPU (or for every n-th, when there are fewer
 * sets than CPUs), and a connection goes to the set of the CPU that its caller
 * names in the request. The name is a hint: a false one costs only its sender.
 *
 * Fixed once read; any thread may ask.
 */
#ifndef HOST_CPUS_H
#define HOST_CPUS_H

#include <stdint.h>

#define CPUS_MAX 1024 /* CPU numbers that are told apart: cpu_set_t's */

struct cpus {
	uint32_t n_sets;
	uint16_t set_of[CPUS_MAX];
	uint8_t allowed[CPUS_MAX];
};

/* Of the CPUs that this process may use; at most max_sets sets, at least one. */
void cpus_read(struct cpus *c, uint32_t max_sets);
/* The set for a caller on this CPU; -1 and numbers out of range have one as well. */
uint32_t cpus_set(const struct cpus *c, int cpu);
/* Keeps the calling thread on the CPUs of a set; without effect where that is not permitted. */
void cpus_pin(const struct cpus *c, uint32_t set);

#endif
