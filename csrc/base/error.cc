#include "base/error.h"

namespace blendserve::detail {

void raise_internal_error(const char* condition, const char* file, int line) {
  throw InternalError(std::string("internal error: ") + condition + " does not hold (" + file + ":" +
                      std::to_string(line) + "); please report it");
}

}  // namespace blendserve::detail
