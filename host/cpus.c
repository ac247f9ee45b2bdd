#include "cpus.h"

#include <sched.h>
#include <string.h>

void cpus_read(struct cpus *c, uint32_t max_sets)
{
	cpu_set_t mine;
	uint32_t n = 0;

	memset(c, 0, sizeof *c);
	if (sched_getaffinity(0, sizeof mine, &mine) != 0)
		CPU_ZERO(&mine);
	c->n_sets = (uint32_t)CPU_COUNT(&mine) < max_sets ? (uint32_t)CPU_COUNT(&mine) : max_sets;
	if (c->n_sets == 0)
		c->n_sets = 1;
	for (uint32_t cpu = 0; cpu < CPUS_MAX; cpu++) {
		c->allowed[cpu] = CPU_ISSET(cpu, &mine) != 0;
		/* A caller may be where the host may not: any set will do for it. */
		c->set_of[cpu] = (uint16_t)((c->allowed[cpu] ? n++ : cpu) % c->n_sets);
	}
}

uint32_t cpus_set(const struct cpus *c, int cpu)
{
	return cpu >= 0 && cpu < CPUS_MAX ? c->set_of[cpu] : 0;
}

void cpus_pin(const struct cpus *c, uint32_t set)
{
	cpu_set_t mine;

	CPU_ZERO(&mine);
	for (uint32_t cpu = 0; cpu < CPUS_MAX; cpu++)
		if (c->allowed[cpu] && c->set_of[cpu] == set)
			CPU_SET(cpu, &mine);
	if (CPU_COUNT(&mine) > 0)
		sched_setaffinity(0, sizeof mine, &mine);
}
