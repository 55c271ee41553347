#include "estimate/life_table.h"

#include <algorithm>

namespace blendserve {

void LifeTable::add_finished(double len) {
  Bucket& bucket = buckets_[static_cast<std::size_t>(LengthBuckets::of(len))];
  bucket.num_finished += 1.0;
  bucket.sum += len;
  bucket.sum_squares += len * len;
}

void LifeTable::add_censored(double age) {
  Bucket& bucket = buckets_[static_cast<std::size_t>(LengthBuckets::of(age))];
  bucket.num_censored += 1.0;
  bucket.censored_sum += age;
}

void LifeTable::clear_censored() {
  for (Bucket& bucket : buckets_) {
    bucket.num_censored = 0.0;
    bucket.censored_sum = 0.0;
  }
}

void LifeTable::add(const LifeTable& other) {
  for (std::size_t i = 0; i < buckets_.size(); ++i) {
    buckets_[i].num_finished += other.buckets_[i].num_finished;
    buckets_[i].sum += other.buckets_[i].sum;
    buckets_[i].sum_squares += other.buckets_[i].sum_squares;
    buckets_[i].num_censored += other.buckets_[i].num_censored;
    buckets_[i].censored_sum += other.buckets_[i].censored_sum;
  }
}

double LifeTable::num_finished() const {
  double count = 0.0;
  for (const Bucket& bucket : buckets_) count += bucket.num_finished;
  return count;
}

double LifeTable::exposure() const {
  double total = 0.0;
  for (const Bucket& bucket : buckets_) total += bucket.sum + bucket.censored_sum;
  return total;
}

std::array<LifeTable::Bucket, LengthBuckets::kCount> LifeTable::at_risk() const {
  auto buckets = buckets_;
  double num_beyond = 0.0;
  for (int i = LengthBuckets::kCount - 1; i >= 0; --i) {
    Bucket& bucket = buckets[static_cast<std::size_t>(i)];
    const double begin = LengthBuckets::begin(i);
    const double lived = (bucket.censored_sum - bucket.num_censored * begin) / (LengthBuckets::end(i) - begin);
    bucket.num_at_risk = num_beyond + bucket.num_finished + std::clamp(lived, 0.0, bucket.num_censored);
    num_beyond += bucket.num_finished + bucket.num_censored;
  }
  return buckets;
}

}  // namespace blendserve
