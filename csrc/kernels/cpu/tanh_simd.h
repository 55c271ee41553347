#pragma once

namespace blendserve::cpu::simd {

// NaN for NaN. The rational function of degrees 13 and 6 is that of Eigen's tanh for float; its relative error is below
// 5e-7, and beyond the ends it is 1 to rounding.
template <class Vector>
typename Vector::Floats tanh(typename Vector::Floats x) {
  constexpr float kEnd = 7.9053111F;
  x = Vector::min(Vector::broadcast(kEnd), Vector::max(Vector::broadcast(-kEnd), x));
  const typename Vector::Floats y = Vector::multiply(x, x);
  typename Vector::Floats p = Vector::broadcast(-2.76076847742355e-16F);
  p = Vector::multiply_add(p, y, Vector::broadcast(2.00018790482477e-13F));
  p = Vector::multiply_add(p, y, Vector::broadcast(-8.60467152213735e-11F));
  p = Vector::multiply_add(p, y, Vector::broadcast(5.12229709037114e-08F));
  p = Vector::multiply_add(p, y, Vector::broadcast(1.48572235717979e-05F));
  p = Vector::multiply_add(p, y, Vector::broadcast(6.37261928875436e-04F));
  p = Vector::multiply_add(p, y, Vector::broadcast(4.89352455891786e-03F));
  typename Vector::Floats q = Vector::broadcast(1.19825839466702e-06F);
  q = Vector::multiply_add(q, y, Vector::broadcast(1.18534705686654e-04F));
  q = Vector::multiply_add(q, y, Vector::broadcast(2.26843463243900e-03F));
  q = Vector::multiply_add(q, y, Vector::broadcast(4.89352518554385e-03F));
  return Vector::divide(Vector::multiply(x, p), q);
}

}  // namespace blendserve::cpu::simd
