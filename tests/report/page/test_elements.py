from bench.report.page.elements import Markup, element, join, plain_table


def test_text_is_escaped_and_markup_is_not():
    inner = element("b", "1 < 2 & 'x'")
    assert inner == "<b>1 &lt; 2 &amp; &#x27;x&#x27;</b>"
    assert element("p", inner, "<i>") == f"<p>{inner}&lt;i&gt;</p>"
    assert join(["<", [inner]], Markup("<hr>")) == f"&lt;{inner}<hr>"


def test_markup_that_was_changed_is_text_again():
    assert element("p", element("i", "x").upper()) == "<p>&lt;I&gt;X&lt;/I&gt;</p>"


def test_attributes_are_escaped_and_named():
    written = element(
        "a", "x", href='"><script>', class_="c", data_value=2, open=True, hidden=False
    )
    assert written == '<a href="&quot;&gt;&lt;script&gt;" class="c" data-value="2" open>x</a>'


def test_elements_without_content_are_not_closed():
    assert element("img", alt="") == '<img alt="">'
    assert element("p") == "<p></p>"


def test_a_plain_table_has_headers_of_rows_and_columns(read_page):
    table = read_page(plain_table(["Method", "p"], [["<a>", "0.1"], ["b", "1"]], names=1))
    assert [(tag.text, tag.attributes["scope"]) for tag in table.find("th")] == [
        ("Method", "col"),
        ("p", "col"),
        ("<a>", "row"),
        ("b", "row"),
    ]
    assert [tag.text for tag in table.find("td", class_="number")] == ["0.1", "1"]
