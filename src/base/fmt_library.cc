// fmt's own functions, compiled once: Debian ships them as a shared library only, and the worker is
// linked statically. Header-only, each source that formats would take two seconds longer to
// compile.
#include <fmt/format-inl.h>

namespace fmt {
inline namespace v9 {
namespace detail {

template void vformat_to(buffer<char>& out, string_view format,
                         basic_format_args<buffer_context<char>> arguments, locale_ref locale);
template void buffer<char>::append(const char* first, const char* last);
template auto thousands_sep_impl<char>(locale_ref locale) -> thousands_sep_result<char>;
template auto decimal_point_impl<char>(locale_ref locale) -> char;
template auto dragonbox::to_decimal(float number) noexcept -> dragonbox::decimal_fp<float>;
template auto dragonbox::to_decimal(double number) noexcept -> dragonbox::decimal_fp<double>;
template locale_ref::locale_ref(const std::locale& locale);
template auto locale_ref::get<std::locale>() const -> std::locale;

}  // namespace detail
}  // namespace v9
}  // namespace fmt
