/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "torchscript_vetting.h"

#include <caffe2/serialize/inline_container.h>
#include <torch/csrc/jit/frontend/lexer.h>
#include <torch/csrc/jit/frontend/parser.h>
#include <torch/csrc/jit/frontend/tree_views.h>
#include <torch/csrc/jit/serialization/import_source.h>
#include <torch/csrc/jit/serialization/unpickler.h>
#include <torch/script.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <unordered_set>
#include <vector>

namespace gr::deeprx {

namespace {

using caffe2::serialize::PyTorchStreamReader;
using namespace torch::jit;
using names = std::unordered_set<std::string>;

// What a receiver may compute with. An operator is here because it only reads its arguments and
// returns values or changes a tensor that it was given; anything that touches files, processes,
// other threads, the network or raw memory layout stays out.
const names allowed_operators{
    // clang-format off
    // language
    "prim::Constant", "prim::GetAttr", "prim::SetAttr", "prim::CallMethod", "prim::CallFunction",
    "prim::CreateObject", "prim::If", "prim::Loop", "prim::ListConstruct", "prim::ListUnpack",
    "prim::TupleConstruct", "prim::TupleUnpack", "prim::TupleIndex", "prim::TupleSlice",
    "prim::DictConstruct", "prim::RaiseException", "prim::Uninitialized", "prim::unchecked_cast",
    "prim::unchecked_unwrap_optional", "prim::isinstance", "prim::NumToTensor",
    "prim::ImplicitTensorToNum", "prim::device", "prim::dtype", "prim::layout", "prim::type",
    "prim::is_cuda", "prim::is_quantized", "prim::requires_grad", "prim::is_nested",
    "prim::is_cpu", "prim::is_mkldnn", "prim::data", "prim::min", "prim::max", "prim::abs",
    "prim::EnumName", "prim::EnumValue", "prim::StringIndex", "prim::rangelist", "prim::tolist",
    "prim::annotate", "prim::shape", "prim::Enter", "prim::Exit", "aten::is_grad_enabled",
    "aten::set_grad_enabled", "aten::is_autocast_enabled", "aten::is_autocast_cpu_enabled",
    "aten::Bool", "aten::Float", "aten::Int", "aten::IntImplicit", "aten::FloatImplicit",
    "aten::ScalarImplicit", "aten::Complex", "aten::ComplexImplicit", "aten::str", "aten::format",
    "aten::len", "aten::append", "aten::extend", "aten::insert", "aten::pop", "aten::list",
    "aten::dict", "aten::keys", "aten::values", "aten::items", "aten::get", "aten::reverse",
    "aten::copy", "aten::__getitem__", "aten::_set_item", "aten::__contains__", "aten::__is__",
    "aten::__isnot__", "aten::__not__", "aten::__and__", "aten::__or__", "aten::__xor__",
    "aten::__range_length", "aten::__derive_index", "aten::__round_to_zero_floordiv",
    "aten::__lshift__", "aten::__rshift__", "aten::__upsample_size", "aten::warn", "aten::Delete",
    "aten::ord", "aten::chr", "aten::find", "aten::startswith", "aten::endswith",
    // shapes and types
    "aten::size", "aten::sym_size", "aten::dim", "aten::numel", "aten::stride", "aten::item",
    "aten::to", "aten::type_as", "aten::float", "aten::double", "aten::half", "aten::bfloat16",
    "aten::int", "aten::long", "aten::bool", "aten::cpu", "aten::cuda", "aten::contiguous",
    "aten::is_contiguous", "aten::clone", "aten::detach", "aten::detach_", "aten::alias",
    "aten::is_floating_point", "aten::is_complex", "aten::is_nonzero", "aten::result_type",
    "aten::view", "aten::view_as", "aten::reshape", "aten::reshape_as", "aten::flatten",
    "aten::unflatten", "aten::squeeze", "aten::squeeze_", "aten::unsqueeze", "aten::unsqueeze_",
    "aten::expand", "aten::expand_as", "aten::broadcast_to", "aten::broadcast_tensors",
    "aten::permute", "aten::transpose", "aten::transpose_", "aten::t", "aten::mT", "aten::mH",
    "aten::H", "aten::T", "aten::numpy_T", "aten::adjoint", "aten::movedim", "aten::moveaxis",
    "aten::swapaxes", "aten::swapdims", "aten::select", "aten::slice", "aten::narrow",
    "aten::index", "aten::index_select", "aten::index_put", "aten::index_put_", "aten::index_add",
    "aten::index_add_", "aten::index_copy", "aten::index_copy_", "aten::index_fill",
    "aten::index_fill_", "aten::gather", "aten::scatter", "aten::scatter_", "aten::scatter_add",
    "aten::scatter_add_", "aten::take", "aten::take_along_dim", "aten::masked_fill",
    "aten::masked_fill_", "aten::masked_select", "aten::masked_scatter", "aten::nonzero",
    "aten::cat", "aten::concat", "aten::stack", "aten::hstack", "aten::vstack", "aten::chunk",
    "aten::split", "aten::split_with_sizes", "aten::tensor_split", "aten::unbind", "aten::unfold",
    "aten::repeat", "aten::repeat_interleave", "aten::tile", "aten::roll", "aten::flip",
    "aten::rot90", "aten::diag", "aten::diagonal", "aten::diag_embed", "aten::tril", "aten::triu",
    "aten::pad", "aten::constant_pad_nd", "aten::reflection_pad1d", "aten::reflection_pad2d",
    "aten::replication_pad1d", "aten::replication_pad2d", "aten::replication_pad3d",
    "aten::meshgrid", "aten::pixel_shuffle", "aten::pixel_unshuffle", "aten::channel_shuffle",
    "aten::view_as_complex", "aten::view_as_real", "aten::real", "aten::imag", "aten::complex",
    "aten::polar", "aten::conj", "aten::resolve_conj", "aten::resolve_neg", "aten::conj_physical",
    // making tensors
    "aten::tensor", "aten::as_tensor", "aten::scalar_tensor", "aten::zeros", "aten::zeros_like",
    "aten::new_zeros", "aten::ones", "aten::ones_like", "aten::new_ones", "aten::full",
    "aten::full_like", "aten::new_full", "aten::arange", "aten::linspace", "aten::eye",
    "aten::zero_", "aten::fill_", "aten::copy_", "aten::one_hot", "aten::hann_window",
    "aten::hamming_window", "aten::blackman_window", "aten::kaiser_window",
    // elementwise
    "aten::add", "aten::add_", "aten::sub", "aten::sub_", "aten::rsub", "aten::subtract",
    "aten::mul", "aten::mul_", "aten::multiply", "aten::div", "aten::div_", "aten::divide",
    "aten::true_divide", "aten::floordiv", "aten::floor_divide", "aten::remainder", "aten::mod",
    "aten::fmod", "aten::divmod", "aten::pow", "aten::pow_", "aten::square", "aten::square_",
    "aten::sqrt", "aten::sqrt_", "aten::rsqrt", "aten::rsqrt_", "aten::reciprocal",
    "aten::reciprocal_", "aten::exp", "aten::exp_", "aten::exp2", "aten::expm1", "aten::log",
    "aten::log_", "aten::log1p", "aten::log2", "aten::log10", "aten::abs", "aten::abs_",
    "aten::absolute", "aten::neg", "aten::neg_", "aten::negative", "aten::positive", "aten::sign",
    "aten::sgn", "aten::signbit", "aten::angle", "aten::sin", "aten::cos", "aten::tan",
    "aten::sinc", "aten::asin", "aten::acos", "aten::atan", "aten::atan2", "aten::arctan2",
    "aten::sinh", "aten::cosh", "aten::tanh", "aten::tanh_", "aten::atanh", "aten::asinh",
    "aten::acosh", "aten::erf", "aten::erfc", "aten::erfinv", "aten::i0", "aten::special_i0",
    "aten::special_i0e", "aten::special_i1e", "aten::lgamma", "aten::floor", "aten::ceil",
    "aten::round", "aten::trunc", "aten::frac", "aten::clamp", "aten::clamp_", "aten::clamp_min",
    "aten::clamp_min_", "aten::clamp_max", "aten::clamp_max_", "aten::clip", "aten::hypot",
    "aten::minimum", "aten::maximum", "aten::fmin", "aten::fmax", "aten::where", "aten::lerp",
    "aten::lerp_", "aten::addcmul", "aten::addcmul_", "aten::addcdiv", "aten::addcdiv_",
    "aten::logaddexp", "aten::logaddexp2", "aten::xlogy", "aten::nan_to_num", "aten::isnan",
    "aten::isinf", "aten::isfinite", "aten::eq", "aten::ne", "aten::lt", "aten::le", "aten::gt",
    "aten::ge", "aten::greater", "aten::greater_equal", "aten::less", "aten::less_equal",
    "aten::not_equal", "aten::logical_and", "aten::logical_or", "aten::logical_not",
    "aten::logical_xor", "aten::bitwise_and", "aten::bitwise_or", "aten::bitwise_xor",
    "aten::bitwise_not", "aten::bitwise_left_shift", "aten::bitwise_right_shift", "aten::deg2rad",
    // reductions and order
    "aten::sum", "aten::nansum", "aten::prod", "aten::mean", "aten::nanmean", "aten::var",
    "aten::std", "aten::var_mean", "aten::std_mean", "aten::amin", "aten::amax", "aten::aminmax",
    "aten::min", "aten::max", "aten::argmin", "aten::argmax", "aten::any", "aten::all",
    "aten::norm", "aten::logsumexp", "aten::cumsum", "aten::cumprod", "aten::logcumsumexp",
    "aten::diff", "aten::median", "aten::nanmedian", "aten::quantile", "aten::count_nonzero",
    "aten::sort", "aten::argsort", "aten::topk", "aten::kthvalue", "aten::searchsorted",
    "aten::bucketize", "aten::trapz", "aten::trapezoid",
    // linear algebra and transforms
    "aten::matmul", "aten::mm", "aten::bmm", "aten::mv", "aten::dot", "aten::vdot", "aten::outer",
    "aten::addmm", "aten::addmv", "aten::addbmm", "aten::baddbmm", "aten::einsum",
    "aten::tensordot", "aten::kron", "aten::trace", "aten::cross", "aten::inverse", "aten::det",
    "aten::logdet", "aten::slogdet", "aten::cholesky", "aten::cholesky_solve",
    "aten::cholesky_inverse", "aten::linalg_inv", "aten::linalg_inv_ex", "aten::linalg_pinv",
    "aten::linalg_solve", "aten::linalg_solve_ex", "aten::linalg_solve_triangular",
    "aten::linalg_cholesky", "aten::linalg_cholesky_ex", "aten::linalg_qr", "aten::linalg_svd",
    "aten::linalg_svdvals", "aten::linalg_eigh", "aten::linalg_eigvalsh", "aten::linalg_det",
    "aten::linalg_lstsq", "aten::linalg_norm", "aten::linalg_vector_norm",
    "aten::linalg_matrix_norm", "aten::linalg_multi_dot", "aten::linalg_matmul",
    "aten::linalg_diagonal", "aten::linalg_vecdot", "aten::linalg_lu_factor",
    "aten::linalg_lu_solve", "aten::linalg_matrix_power", "aten::fft_fft", "aten::fft_ifft",
    "aten::fft_rfft", "aten::fft_irfft", "aten::fft_fft2", "aten::fft_ifft2", "aten::fft_fftn",
    "aten::fft_ifftn", "aten::fft_fftshift", "aten::fft_ifftshift", "aten::fft_fftfreq",
    "aten::fft_rfftfreq",
    // neural network layers
    "aten::conv1d", "aten::conv2d", "aten::conv3d", "aten::conv_transpose1d",
    "aten::conv_transpose2d", "aten::conv_transpose3d", "aten::convolution", "aten::_convolution",
    "aten::_convolution_mode", "aten::linear", "aten::bilinear", "aten::batch_norm",
    "aten::native_batch_norm", "aten::layer_norm", "aten::native_layer_norm", "aten::group_norm",
    "aten::instance_norm", "aten::rms_norm", "aten::cosine_similarity", "aten::relu",
    "aten::relu_", "aten::relu6", "aten::leaky_relu", "aten::leaky_relu_", "aten::prelu",
    "aten::rrelu", "aten::elu", "aten::elu_", "aten::selu", "aten::celu", "aten::gelu",
    "aten::gelu_", "aten::silu", "aten::silu_", "aten::mish", "aten::mish_", "aten::glu",
    "aten::hardtanh", "aten::hardtanh_", "aten::hardswish", "aten::hardswish_",
    "aten::hardsigmoid", "aten::hardsigmoid_", "aten::sigmoid", "aten::sigmoid_",
    "aten::log_sigmoid", "aten::softplus", "aten::softsign", "aten::softmax", "aten::log_softmax",
    "aten::threshold", "aten::threshold_", "aten::dropout", "aten::dropout_",
    "aten::feature_dropout", "aten::feature_dropout_", "aten::alpha_dropout", "aten::avg_pool1d",
    "aten::avg_pool2d", "aten::avg_pool3d", "aten::max_pool1d", "aten::max_pool2d",
    "aten::max_pool3d", "aten::adaptive_avg_pool1d", "aten::adaptive_avg_pool2d",
    "aten::adaptive_avg_pool3d", "aten::adaptive_max_pool1d", "aten::adaptive_max_pool2d",
    "aten::interpolate", "aten::upsample_nearest1d", "aten::upsample_nearest2d",
    "aten::upsample_nearest3d", "aten::_upsample_nearest_exact1d",
    "aten::_upsample_nearest_exact2d", "aten::_upsample_nearest_exact3d",
    "aten::upsample_linear1d", "aten::upsample_bilinear2d", "aten::upsample_bicubic2d",
    "aten::upsample_trilinear3d", "aten::_upsample_bilinear2d_aa", "aten::_upsample_bicubic2d_aa",
    "aten::_upsample_lanczos2d_aa", "aten::grid_sampler", "aten::affine_grid_generator",
    "aten::im2col", "aten::col2im", "aten::embedding", "aten::scaled_dot_product_attention",
    "aten::multi_head_attention_forward", "aten::_native_multi_head_attention",
    "aten::_transformer_encoder_layer_fwd", "aten::gru", "aten::gru_cell", "aten::lstm",
    "aten::lstm_cell", "aten::rnn_tanh", "aten::rnn_relu",
    // quantised layers
    "aten::quantize_per_tensor", "aten::quantize_per_tensor_dynamic",
    "aten::quantize_per_channel", "aten::dequantize", "aten::int_repr", "aten::q_scale",
    "aten::q_zero_point", "aten::fake_quantize_per_tensor_affine",
    "aten::fake_quantize_per_channel_affine", "quantized::conv1d", "quantized::conv1d_relu",
    "quantized::conv1d_prepack", "quantized::conv1d_unpack", "quantized::conv2d",
    "quantized::conv2d_relu", "quantized::conv2d_add", "quantized::conv2d_add_relu",
    "quantized::conv2d_dynamic", "quantized::conv2d_prepack", "quantized::conv2d_unpack",
    "quantized::conv2d_stride", "quantized::conv2d_padding", "quantized::conv2d_dilation",
    "quantized::conv2d_groups", "quantized::linear", "quantized::linear_relu",
    "quantized::linear_dynamic", "quantized::linear_relu_dynamic", "quantized::linear_prepack",
    "quantized::linear_unpack", "quantized::linear_prepack_fp16",
    "quantized::linear_dynamic_fp16", "quantized::linear_unpack_fp16", "quantized::add",
    "quantized::add_relu", "quantized::mul", "quantized::mul_relu", "quantized::add_scalar",
    "quantized::mul_scalar", "quantized::cat", "quantized::cat_relu", "quantized::batch_norm",
    "quantized::batch_norm2d", "quantized::batch_norm2d_relu", "quantized::layer_norm",
    "quantized::group_norm", "quantized::leaky_relu", "quantized::hardswish",
    "quantized::sigmoid", "quantized::relu6", "quantized::softmax", "quantized::prelu",
    // clang-format on
};

[[noreturn]] void refuse(const std::string& what)
{
    throw std::runtime_error("refused, " + what + " is not allowed in a model");
}

//! A literal, or annotate() and float() of literals: plain names, which no function of the archive
//! can have.
bool is_plain(const Expr& value)
{
    const auto all_plain = [](const auto& values) {
        for (const Expr& v : values)
            if (!is_plain(v))
                return false;
        return true;
    };
    switch (value.kind()) {
    case TK_CONST:
    case TK_STRINGLITERAL:
    case TK_TRUE:
    case TK_FALSE:
    case TK_NONE:
        return true;
    case TK_UNARY_MINUS:
        return is_plain(Expr(value.tree()->tree(0)));
    case TK_LIST_LITERAL:
        return all_plain(ListLiteral(value).inputs());
    case TK_TUPLE_LITERAL:
        return all_plain(TupleLiteral(value).inputs());
    case TK_DICT_LITERAL:
        return all_plain(DictLiteral(value).key_inputs()) &&
               all_plain(DictLiteral(value).value_inputs());
    case TK_VAR: // as LibTorch writes these numbers
        return Var(value).name().name() == "inf" || Var(value).name().name() == "nan";
    case TK_APPLY: {
        const Apply call(value);
        if (call.callee().kind() != TK_VAR || !call.attributes().empty())
            return false;
        const std::string name = Var(call.callee()).name().name();
        if (name == "float")
            return all_plain(call.inputs());
        return name == "annotate" && call.inputs().size() == 2 && is_plain(call.inputs()[1]);
    }
    default:
        return false;
    }
}

//! The classes and functions of one source file of the archive.
class source_file
{
public:
    source_file(std::string qualifier, const std::shared_ptr<Source>& source)
        : d_qualifier(std::move(qualifier))
    {
        Parser parser(source);
        Lexer& lexer = parser.lexer();
        while (lexer.cur().kind != TK_EOF) {
            switch (lexer.cur().kind) {
            case TK_CLASS_DEF:
                d_classes.emplace_back(parser.parseClass());
                break;
            case TK_DEF:
                d_functions.emplace_back(parser.parseFunction(/*is_method=*/false));
                break;
            default: // version number, imports: the importer checks their syntax
                lexer.next();
            }
        }
    }

    const std::string& qualifier() const { return d_qualifier; }
    const std::vector<ClassDef>& classes() const { return d_classes; }

    //! The compiler evaluates default arguments and class constants: nothing may happen there.
    void check_constants() const
    {
        for (const auto& function : d_functions)
            check_default_arguments(function.tree());
        for (const auto& type : d_classes)
            for (const auto& statement : type.body())
                check_statement(statement);
    }

private:
    static void check_statement(const Stmt& statement)
    {
        if (statement.kind() == TK_DEF)
            return check_default_arguments(statement.tree());
        if (statement.kind() != TK_ASSIGN)
            refuse("a class with more than constants and methods");
        const Assign assignment(statement);
        if (assignment.lhs().kind() == TK_SUBSCRIPT) // __annotations__["name"] = a type
            return;
        const auto value = assignment.rhs();
        if (value.present() && !is_plain(value.get()))
            refuse("computing a constant or default argument");
    }

    static void check_default_arguments(const TreeRef& tree)
    {
        if (tree->isAtom())
            return;
        if (tree->kind() == TK_PARAM) {
            const auto value = Param(tree).defaultValue();
            if (value.present() && !is_plain(value.get()))
                refuse("computing a constant or default argument");
        }
        for (const auto& part : tree->trees())
            check_default_arguments(part);
    }

    const std::string d_qualifier;
    std::vector<ClassDef> d_classes;
    std::vector<Def> d_functions;
};

//! Classes compiled into LibTorch: only the containers of quantised weights.
void check_type(const c10::TypePtr& type)
{
    const auto named = type->cast<c10::NamedType>();
    if (named && named->name() &&
        named->name()->qualifiedName().rfind("__torch__.torch.classes.", 0) == 0 &&
        named->name()->qualifiedName().rfind("__torch__.torch.classes.quantized.", 0) != 0)
        refuse("the class " + named->name()->qualifiedName());
    for (const auto& contained : type->containedTypes())
        check_type(contained);
}

//! What an honest cast finds out: an Optional holds something, or which of a few plain types it is,
//! which whoever takes the value checks. Of objects nobody checks the class.
void check_cast(const Node& cast)
{
    const auto from = cast.input()->type(), to = cast.output()->type();
    const auto optional = from->cast<c10::OptionalType>();
    const bool plain =
        to->kind() == c10::TypeKind::TensorType || to->kind() == c10::TypeKind::IntType ||
        to->kind() == c10::TypeKind::FloatType || to->kind() == c10::TypeKind::BoolType ||
        to->kind() == c10::TypeKind::StringType;
    if (!plain && !from->isSubtypeOf(*to) &&
        !(optional && to->isSubtypeOf(*optional->getElementType())))
        refuse("casting " + from->annotation_str() + " to " + to->annotation_str());
}

void check_block(const Block& block, const std::string& where)
{
    for (const Node* node : block.nodes()) {
        const std::string name = node->kind().toQualString();
        if (!allowed_operators.count(name))
            refuse("the operator " + name + " (in " + where + ")");
        if (node->kind() == prim::unchecked_cast)
            check_cast(*node);
        for (const Value* value : node->outputs())
            check_type(value->type());
        for (const Block* inner : node->blocks())
            check_block(*inner, where);
        for (const auto attribute : node->attributeNames()) {
            if (node->kindOf(attribute) == AttributeKind::g)
                check_block(*node->g(attribute)->block(), where);
            else if (node->kindOf(attribute) == AttributeKind::gs)
                for (const auto& graph : node->gs(attribute))
                    check_block(*graph->block(), where);
        }
    }
}

std::string lower(std::string text)
{
    std::transform(text.begin(), text.end(), text.begin(), ::tolower);
    return text;
}

bool starts_with(const std::string& text, const std::string& prefix)
{
    return text.rfind(prefix, 0) == 0;
}

bool ends_with(const std::string& text, const std::string& suffix)
{
    return text.size() >= suffix.size() &&
           text.compare(text.size() - suffix.size(), suffix.size(), suffix) == 0;
}

//! "code/__torch__/a/b.py" -> "__torch__.a.b"
std::string qualifier_of(const std::string& record)
{
    std::string qualifier = record.substr(5, record.size() - 8);
    std::replace(qualifier.begin(), qualifier.end(), '/', '.');
    return qualifier;
}

std::shared_ptr<Source> read_source(PyTorchStreamReader& reader, const std::string& record)
{
    const auto [data, size] = reader.getRecord(record);
    return std::make_shared<Source>(
        std::string(static_cast<const char*>(data.get()), size), record, 1);
}

} // namespace

void vet_torchscript(const std::shared_ptr<torch_archive>& archive)
{
    PyTorchStreamReader reader(archive);

    // The loader finds records without regard to case: a record it could take for another one would
    // escape this check.
    names seen;
    std::vector<source_file> sources;
    for (const auto& record : reader.getAllRecords()) {
        const std::string name = lower(record);
        if (!seen.insert(name).second)
            refuse("a second record " + record);
        if (name == "model.json")
            refuse("the format of PyTorch before 1.4");
        if (!starts_with(name, "code/") || ends_with(name, ".debug_pkl"))
            continue;
        if (!starts_with(record, "code/") || !ends_with(record, ".py"))
            refuse("the record " + record);
        sources.emplace_back(qualifier_of(record), read_source(reader, record));
    }

    for (const auto& source : sources)
        source.check_constants();

    // Compile everything the way the loader does, but build objects without their __setstate__.
    const auto unit = std::make_shared<CompilationUnit>();
    std::vector<at::IValue> constants;
    const SourceImporter importer(
        unit,
        &constants,
        [&](const std::string& qualifier) -> std::shared_ptr<Source> {
            std::string record = qualifier;
            std::replace(record.begin(), record.end(), '.', '/');
            record = "code/" + record + ".py";
            return reader.hasRecord(record) ? read_source(reader, record) : nullptr;
        },
        reader.version());
    const auto resolve = [&](const c10::QualifiedName& name) {
        auto type = name.prefix() == "__torch__.torch.classes" ||
                            starts_with(name.qualifiedName(), "__torch__.torch.classes.")
                        ? c10::TypePtr(torch::getCustomClass(name.qualifiedName()))
                        : importer.loadType(name);
        if (!type)
            refuse("the unknown class " + name.qualifiedName());
        check_type(type);
        return c10::StrongTypePtr(unit, type);
    };
    const auto build_empty = [&](const c10::StrongTypePtr& type, const at::IValue&) {
        return c10::ivalue::Object::create(type,
                                           type.type_->expect<c10::ClassType>()->numAttributes());
    };
    const auto unpickle = [&](const std::string& name) {
        auto left = archive->record(name + ".pkl");
        Unpickler unpickler(
            [&left](char* to, size_t n) {
                n = left.copy(to, n);
                left.remove_prefix(n);
                return n;
            },
            resolve,
            build_empty,
            [&](const std::string& key) { // not a copy: nothing here reads what tensors hold
                auto* const data = archive->record(name + '/' + key).data();
                return at::DataPtr(const_cast<char*>(data), c10::kCPU);
            },
            c10::kCPU);
        unpickler.set_version(reader.version());
        return unpickler.parse_ivalue();
    };
    constants = unpickle("constants").toTupleRef().elements().vec();
    unpickle("data");
    for (const auto& source : sources)
        for (const auto& type : source.classes())
            importer.loadType(
                c10::QualifiedName(c10::QualifiedName(source.qualifier()), type.name().name()));

    for (Function* function : unit->get_functions()) {
        function->ensure_defined();
        check_block(*toGraphFunction(*function).graph()->block(),
                    function->qualname().qualifiedName());
    }
}

} // namespace gr::deeprx
