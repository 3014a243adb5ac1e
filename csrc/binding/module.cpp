// The module that `import resnet_kernels._C` loads, and the primitives' conformance kernels.
#include <Python.h>

#include "binding/tensors.h"

namespace rk::binding {
namespace {

Tensor conformance(const Tensor& input, const std::string& primitive) {
  const int64_t words = rk::conformance_input_words(primitive.c_str());
  STD_TORCH_CHECK(input.scalar_type() == ScalarType::Int && input.dim() == 1 && input.numel() == words &&
                      (words == 1 || input.stride(0) == 1),
                  "conformance: ", primitive, " takes ", words, " contiguous int32 words");
  const OnDeviceOf guard(input);
  Tensor output = torch::stable::empty({rk::conformance_output_words(primitive.c_str())}, ScalarType::Int,
                                       std::nullopt, input.device());
  rk::conformance(primitive.c_str(), input.const_data_ptr(), output.mutable_data_ptr(),
                  current_stream(input));
  return output;
}

RK_LIBRARY_IMPL(RK_NAMESPACE, RK_DISPATCH_KEY, m) { m.impl("conformance", TORCH_BOX(&conformance)); }

}  // namespace
}  // namespace rk::binding

// The GPU's module is empty: loading it runs the registrations above. The simulator's has its own
// (machine/sim/module.cpp).
#ifdef RK_MODULE_C
PyMODINIT_FUNC PyInit__C() {
  static PyModuleDef definition = {
      PyModuleDef_HEAD_INIT, "_C", nullptr, 0, nullptr, nullptr, nullptr, nullptr, nullptr};
  return PyModule_Create(&definition);
}
#endif
