# cmake -DFILE=page.html -DOUTPUT=page.cc -P embed.cmake: the file as an array in C++.
file(READ ${FILE} hex HEX)
file(SIZE ${FILE} length)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
string(REGEX REPLACE "(................................................................................)" "\\1\n" bytes "${bytes}")
file(WRITE ${OUTPUT} "#include \"serve/status_page.h\"

#include <array>

namespace selvage::serve {
namespace {

constexpr std::array<unsigned char, ${length}> kPage = {
${bytes}};

}  // namespace

std::string_view status_page() {
  return {reinterpret_cast<const char*>(kPage.data()), kPage.size()};
}

}  // namespace selvage::serve
")
