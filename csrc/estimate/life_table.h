#pragma once

#include <array>

#include "estimate/length_buckets.h"

namespace blendserve {

// Evidence on lengths: those that ended, and ages that others have reached without ending (censored).
class LifeTable {
 public:
  void add_finished(double len);
  void add_censored(double age);  // its length is more than `age`
  void clear_censored();          // running requests are counted afresh each time
  void add(const LifeTable& other);

  double num_finished() const;
  // Σ of lengths and ages: all the time in which something could have ended.
  double exposure() const;

  struct Bucket {
    double num_finished = 0.0;
    double sum = 0.0;  // of the finished lengths
    double sum_squares = 0.0;
    double num_censored = 0.0;
    double censored_sum = 0.0;
    double num_at_risk = 0.0;  // see at_risk()
  };

  // Sets num_at_risk: all that reached the bucket, those censored in it counted for the part of it that they lived
  // through (the actuarial method; Cutler and Ederer 1958).
  std::array<Bucket, LengthBuckets::kCount> at_risk() const;

 private:
  std::array<Bucket, LengthBuckets::kCount> buckets_{};
};

}  // namespace blendserve
