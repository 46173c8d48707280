// SessionOptions in the runtime's terms. Internal to src/infer.
#pragma once

#include "crypto/digest.h"
#include "infer/ort.h"
#include "infer/session.h"

namespace selvage::infer {

/// `options` with every choice made that the profile leaves open, and limits checked.
[[nodiscard]] Result<SessionOptions> decide(SessionOptions options);

/// Options for a session whose graph was (`optimised`) or was not yet optimised.
[[nodiscard]] Result<ort::Handle<OrtSessionOptions>> to_ort(const SessionOptions& options,
                                                            bool optimised);

/// Whether the provider, by its full name, starts on this machine. Needs an environment.
[[nodiscard]] bool starts_provider(std::string_view full);

/// Everything that an optimised graph depends on.
[[nodiscard]] crypto::Digest cache_key(const crypto::Digest& model, const SessionOptions& options);

/// Whether an optimised graph of these options can be stored: other providers compile parts of it.
[[nodiscard]] bool cacheable(const SessionOptions& options);

}  // namespace selvage::infer
