/* What mixed.c loads: linked with a copy of the static library of its own. */
#include "bypassprof.h"

void loaded_turn(uint32_t number);

void loaded_turn(uint32_t number)
{
    bypassprof_emit(BYPASSPROF_TIMER, 3, number);
}
