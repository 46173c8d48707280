// The page that `/` shows: web/status.html, embedded in the program.
#pragma once

#include <string>
#include <string_view>

namespace selvage::serve {

[[nodiscard]] std::string_view status_page();

/// The Content-Security-Policy under which exactly the page's own script and style run and nothing
/// is fetched from elsewhere.
[[nodiscard]] std::string content_security_policy(std::string_view page);

}  // namespace selvage::serve
