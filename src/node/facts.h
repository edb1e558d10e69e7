/* facts.h - what this device is like now, for src/place/decide.h: measured from the system where it says, else the
 * strictest reading. Which models are here and which targets failed is the caller's to fill in. */
#ifndef NIGH_FACTS_H
#define NIGH_FACTS_H

#include "place/decide.h"

/* Fills time, memory, instruction sets, power, heat and network. cpu: flags of kernel/kernel.h.
 * Linux: /proc/meminfo, /sys/class/power_supply, /sys/class/thermal, /proc/net/route. A machine without a battery is on
 * mains. NIGH_METERED=1 says that the line is metered: the system does not tell. */
void nigh_facts_measure(nigh_place_facts *facts, unsigned cpu);

#endif
