# One interface target that every target of the project links: warnings and sanitizers in one place.
add_library(blendserve_options INTERFACE)
target_include_directories(blendserve_options INTERFACE ${PROJECT_SOURCE_DIR}/csrc)
target_compile_options(blendserve_options INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion)
if(BLENDSERVE_WERROR)
  target_compile_options(blendserve_options INTERFACE -Werror)
endif()
if(BLENDSERVE_SANITIZE)
  # GCC 12 sees uninitialized reads in its own <regex> when it is instrumented (GCC bug 105562).
  target_compile_options(blendserve_options INTERFACE -fsanitize=${BLENDSERVE_SANITIZE} -fno-omit-frame-pointer
                                                      -fno-sanitize-recover=all -Wno-maybe-uninitialized)
  target_link_options(blendserve_options INTERFACE -fsanitize=${BLENDSERVE_SANITIZE})
endif()
