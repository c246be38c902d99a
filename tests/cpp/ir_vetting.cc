/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "ir_vetting.h"
#include "raises.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <ostream>

using gr::deeprx::vet_ir;

BOOST_AUTO_TEST_SUITE(ir_vetting_suite)

namespace {

const std::string declaration = "<?xml version=\"1.0\"?>\n";

//! An IR of one constant, and of what stands before and inside it.
std::string ir(const std::string& before = "",
               const std::string& constant = R"(element_type="f32" offset="0" size="16")",
               const std::string& inside = "")
{
    return declaration + R"(<net name="n" version="11"><layers>)" + before +
           R"(<layer id="0" name="c" type="Const" version="opset1"><data )" + constant + "/>" +
           inside + R"(</layer></layers><edges/></net>)";
}

std::string layer(const std::string& type, const std::string& version = "opset1")
{
    return "<layer id=\"1\" type=\"" + type + "\" version=\"" + version + "\"/>";
}

struct wrong {
    std::string xml;
    const char* words;
};

std::ostream& operator<<(std::ostream& out, const wrong& w)
{
    return out << w.words << ": " << w.xml.substr(0, 300);
}

const wrong wrongs[]{
    { "", "no XML" },
    { "onnx", "no XML" },
    { "<net/>", "no XML" },
    { "<?xml ", "no XML" },
    { declaration, "other than plain tags" },
    { declaration + "<net version=\"9\"/>", "IR 10 and 11" },
    { declaration + "<model version=\"11\"/>", "IR 10 and 11" },
    { ir() + std::string(1, '\0'), "other than plain tags" },
    { ir(layer("ReadValue")), "the layer ReadValue" },
    { ir(layer("If")), "the layer If" },
    { ir(layer("Loop")), "the layer Loop" },
    { ir(layer("RandomUniform")), "the layer RandomUniform" },
    { ir(layer("&#65;dd")), "other than plain tags" },
    { ir(layer("")), "the layer " },
    { ir(layer("Add", "extension")), "the layer Add of extension" },
    { ir(layer("Add", "")), "the layer Add of " },
    { ir("<body>" + layer("Assign") + "</body>"), "the layer Assign" },
    { ir("", R"(element_type="f32" offset="0" size="16")", layer("Assign")), "the layer Assign" },
    { ir("", R"(element_type="f32" offset="0" size="16")", layer("Add")), "another part" },
    { ir("<x>" + layer("Add") + "</x>"), "another part" },
    { ir("", R"(element_type="f32" offset="0" size="16")", "<body/>"), "a body within a layer" },
    { ir("", R"(element_type="f32" offset="1" size="16")"), "outside its weights" },
    { ir("", R"(element_type="f32" offset="17" size="0")"), "outside its weights" },
    { ir("", R"(element_type="f32" offset="18446744073709551615" size="2")"), "outside its" },
    { ir("", R"(element_type="f32" offset="18446744073709551616" size="2")"), "offset or size" },
    { ir("", R"(element_type="f32" offset="-1" size="2")"), "the offset or size '-1'" },
    { ir("", R"(element_type="f32" offset="0")"), "the offset or size ''" },
    { ir("", R"(element_type="string" offset="0" size="16")"), "type 'string'" },
    { ir("<!-- -->"), "other than plain tags" },
    { ir("<![CDATA[x]]>"), "other than plain tags" },
    { ir("<?x y='?>"), "other than plain tags" },
    { ir("<!DOCTYPE x>"), "other than plain tags" },
    { ir(R"(<layer type="Add" type="Assign" version="opset1"/>)"), "other than plain tags" },
    { ir("<layer type=Add/>"), "other than plain tags" },
    { ir("<"), "other than plain tags" },
    { ir("</layers>"), "a layer within another part" },
    { "<?xml x='>' version=\"1.0\"?>" + ir().substr(declaration.size()), "no XML" },
};

std::string nested(int depth)
{
    std::string open, close;
    for (int i = 0; i < depth; i++) {
        open += "<a>";
        close += "</a>";
    }
    return open + close;
}

} // namespace

BOOST_DATA_TEST_CASE(more_than_a_graph_of_layers_is_refused,
                     boost::unit_test::data::make(wrongs),
                     w)
{
    check_raises<std::runtime_error>([&] { vet_ir(w.xml, 16); }, w.words);
}

BOOST_AUTO_TEST_CASE(a_plain_one_passes)
{
    vet_ir(ir(), 16);
    vet_ir(ir(layer("Convolution") + layer("Softmax", "opset8")), 16);
    BOOST_CHECK(true);
}

BOOST_AUTO_TEST_CASE(what_is_deep_or_long_is_refused)
{
    check_raises<std::runtime_error>([] { vet_ir(ir(nested(200000)), 16); }, "nested more than 16");
    check_raises<std::runtime_error>(
        [] { vet_ir(ir(std::string((size_t{ 2 } << 20) + 1, ' ')), 16); }, "bytes is not allowed");
}

BOOST_AUTO_TEST_SUITE_END()
