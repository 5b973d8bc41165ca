#include "bypassprof.h"
#include "bypassprof.h"
