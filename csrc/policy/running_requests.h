#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "base/ids.h"

namespace blendserve {

// A request that was taken.
struct RunningRequest {
  RequestId id = kNoRequest;
  std::int32_t prompt_len = 0;
  std::int32_t own_len = 0;            // of the prompt, what no other request shares
  std::int32_t num_generated = 0;      // before decode_step
  std::int64_t decode_step = kNotYet;  // from this step on it generates a token a step

  static constexpr std::int64_t kNotYet = INT64_MAX;

  std::int32_t num_generated_at(std::int64_t step) const {
    return decode_step == kNotYet ? num_generated : num_generated + static_cast<std::int32_t>(step - decode_step);
  }
};

// The requests that are taken, in no order. All operations take constant time.
class RunningRequests {
 public:
  // One more request has arrived: ids count from 0.
  void add_id() { index_.push_back(kNone); }

  void add(const RunningRequest& request) {
    index_[static_cast<std::size_t>(request.id)] = static_cast<std::int32_t>(requests_.size());
    requests_.push_back(request);
  }
  // Nothing if it is not running.
  void remove(RequestId id) {
    const std::int32_t index = std::exchange(index_[static_cast<std::size_t>(id)], kNone);
    if (index == kNone) return;
    if (requests_.back().id != id) {
      requests_[static_cast<std::size_t>(index)] = requests_.back();
      index_[static_cast<std::size_t>(requests_.back().id)] = index;
    }
    requests_.pop_back();
  }

  // It must be running.
  RunningRequest& operator[](RequestId id) {
    return requests_[static_cast<std::size_t>(index_[static_cast<std::size_t>(id)])];
  }

  std::size_t size() const { return requests_.size(); }
  auto begin() const { return requests_.begin(); }
  auto end() const { return requests_.end(); }

 private:
  static constexpr std::int32_t kNone = -1;

  std::vector<RunningRequest> requests_;
  std::vector<std::int32_t> index_;  // by id, into requests_
};

}  // namespace blendserve
