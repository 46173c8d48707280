// The Backend of the server: infer's ModelRepository.
#pragma once

#include <memory>

#include "serve/backend.h"

namespace selvage::serve {

/// `repository` must outlive it.
[[nodiscard]] std::unique_ptr<Backend> make_backend(infer::ModelRepository& repository);

}  // namespace selvage::serve
