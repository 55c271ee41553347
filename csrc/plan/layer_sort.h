#pragma once

#include "plan/annotate.h"

namespace blendserve {

// Puts the children of every node in order of density, compute-heavy on the left; equal ones keep their order. Node ids
// and what is shared stay as they are.
void layer_sort(AnnotatedTree& tree);

}  // namespace blendserve
