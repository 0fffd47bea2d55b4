/* reference.h - the naive twin of every hardware operation: plain loops, float64 sums, no threads.
 * The oracle of the kernel tests and the fallback where a backend leaves a row NULL. */
#ifndef SQZ_RUNTIME_REFERENCE_H
#define SQZ_RUNTIME_REFERENCE_H
#include <sqz/hardware.h>
/* The table; its `dev` argument is NULL. */
const sqz_hardware *reference_hardware(void);
/* Copy of `backend` with absent rows taken from the reference.  Only for host-memory backends whose
 * handles are the pointers themselves. */
void hardware_complete(const sqz_hardware *backend, sqz_hardware *out);
#endif
