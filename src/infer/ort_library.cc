// ONNX Runtime's library, loaded when it is first called: a program that runs no model, such as an
// idle server, does not carry its 4 MB. It has one entry, which is defined here in its place, so
// that the linker leaves the library out; the loader finds it by the program's own search path.
#include <string>

#include <dlfcn.h>

#include "infer/ort.h"

namespace selvage::infer::ort {
namespace {

constexpr const char* kLibrary = "libonnxruntime.so.1";
constexpr const char* kEntry = "OrtGetApiBase";

const std::string& reason() {
  static const std::string text = [] {
    const char* error = ::dlerror();  // NOLINT(concurrency-mt-unsafe): each thread has its own
    return "0 (" + std::string(error != nullptr ? error : kLibrary) + ")";
  }();
  return text;
}

/// Stands in for a library that cannot be loaded: too old for everybody, and says why.
constexpr OrtApiBase kMissing = {
    .GetApi = [](std::uint32_t) noexcept -> const OrtApi* { return nullptr; },
    .GetVersionString = []() noexcept { return reason().c_str(); }};

const OrtApiBase* load() {
  void* library = ::dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  void* entry = library == nullptr ? nullptr : ::dlsym(library, kEntry);
  if (entry != nullptr) return reinterpret_cast<const OrtApiBase* (*)()>(entry)();
  static_cast<void>(reason());  // Before another call of the loader replaces it.
  return &kMissing;
}

}  // namespace
}  // namespace selvage::infer::ort

const OrtApiBase* OrtGetApiBase() noexcept {
  static const OrtApiBase* const base = selvage::infer::ort::load();
  return base;
}
