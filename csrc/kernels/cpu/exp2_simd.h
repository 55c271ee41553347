#pragma once

namespace blendserve::cpu::simd {

// 2^x for x <= 0: exactly 1 at 0, 0 below -126, NaN for NaN. The polynomial for 2^f, |f| <= 1/2, is that of exp2f in
// the Cephes library (S. L. Moshier); its relative error is below 2e-7.
template <class Vector>
typename Vector::Floats exp2_of_nonpositive(typename Vector::Floats x) {
  const typename Vector::Floats n = Vector::round(x);
  const typename Vector::Floats f = Vector::subtract(x, n);
  typename Vector::Floats p = Vector::broadcast(1.535336188319500e-4F);
  p = Vector::multiply_add(p, f, Vector::broadcast(1.339887440266574e-3F));
  p = Vector::multiply_add(p, f, Vector::broadcast(9.618437357674640e-3F));
  p = Vector::multiply_add(p, f, Vector::broadcast(5.550332471162809e-2F));
  p = Vector::multiply_add(p, f, Vector::broadcast(2.402264791363012e-1F));
  p = Vector::multiply_add(p, f, Vector::broadcast(6.931472028550421e-1F));
  p = Vector::multiply_add(p, f, Vector::broadcast(1.0F));
  return Vector::zero_where_below(Vector::scale(p, n), x, -126.0F);
}

}  // namespace blendserve::cpu::simd
