"""Ways to break reports and exports; what is drawn is looked at in a browser."""

from __future__ import annotations

from broken.mutant import Mutant

REPORT, ASSETS, EXPORT = "analysis/report", "analysis/report/assets", "analysis/export"
FINDINGS, FIGURES = f"{REPORT}/sections/findings.py", f"{REPORT}/figures.py"
KINDS, BROWSER = "asking/report/test_kinds_of_recordings.py", "asking/report/test_in_a_browser.py"
WRITTEN, METADATA = "asking/report/test_report.py", "handing_over/test_metadata.py"
PLOTTING = "analysis/plotting.py"

HANDING_OVER_MUTANTS = (
    Mutant(
        "names of strangers are written into the page as they are",
        f"{KINDS}::test_names_of_strangers_do_nothing",
        ((f"{REPORT}/page.py", "return html.escape(printable(value))", "return printable(value)"),),
    ),
    Mutant(
        "a label of strangers ends the script of a page",
        f"{KINDS}::test_names_of_strangers_do_nothing",
        ((f"{REPORT}/page.py", '.replace("<", "\\\\u003c")', ""),),
    ),
    Mutant(
        "the policy of a page allows what is not in it",
        f"{WRITTEN}::test_the_policy_allows_what_is_in_the_page_by_its_hash_and_nothing_else",
        ((f"{REPORT}/page.py", "default-src 'none'; script", "default-src *; script"),),
    ),
    Mutant(
        "a page grows beyond its limit",
        f"{WRITTEN}::test_a_page_that_would_be_too_large_leaves_out_what_is_of_one_layer",
        ((f"{REPORT}/writing.py", "if len(text.encode()) <= limit_bytes or not shown", "if True"),),
    ),
    Mutant(
        "the line under a picture is about all layers",
        f"{WRITTEN}::test_each_line_gives_the_figures_that_it_stands_under",
        ((f"{REPORT}/asked.py", "if self.layer is not None:", "if self.layer is not None and self.signal:"),),
    ),
    Mutant(
        "rates are rounded on their way into the page",
        f"{WRITTEN}::test_each_line_gives_the_figures_that_it_stands_under",
        ((FIGURES, '_base64(flat.astype("<f8"))', '_base64(flat.astype("<f4").astype("<f8"))'),),
    ),
    Mutant(
        "a dead layer is no finding",
        f"{KINDS}::test_findings_name_dead_and_saturated_layers_and_activity_that_dies",
        ((FINDINGS, "if silent.get(name, 0) == 1]", "if silent.get(name, 0) > 1]"),),
    ),
    Mutant(
        "ups and downs of chance are said to be drift",
        f"{KINDS}::test_findings_name_drift_and_not_the_ups_and_downs_of_chance",
        ((FINDINGS, "max(DRIFTED * max(before, after), 3 * noise)", "0"),),
    ),
    Mutant(
        "layers of counts blank pictures of time",
        f"{KINDS}::test_layers_of_which_only_counts_were_kept_blank_no_picture_of_the_others",
        (
            (
                f"{REPORT}/scope.py",
                "timed = without(recording, counted_layers(recording))",
                "timed = recording",
            ),
        ),
    ),
    Mutant(
        "layers of counts are said to be equal",
        f"{KINDS}::test_layers_of_which_only_counts_were_kept_are_not_compared",
        ((f"{REPORT}/differing.py", "    elif not counted:\n", "    elif True:\n"),),
    ),
    Mutant(
        "bits of a raster are read from the other end",
        f"{BROWSER}::test_the_raster_shows_the_chosen_label_and_says_the_neuron",
        (
            (
                f"{ASSETS}/data.js",
                "(bytes[place >> 3] >> (place & 7)) & 1",
                "(bytes[place >> 3] >> (7 - (place & 7))) & 1",
            ),
        ),
    ),
    Mutant(
        "CSV has the figures along the wrong axis",
        f"{BROWSER}::test_csv_has_the_numbers_of_the_api",
        (
            (
                f"{ASSETS}/data.js",
                "for (let axis = place.length - 1; axis >= 0; axis--)",
                "for (let axis = 0; axis < place.length; axis++)",
            ),
        ),
    ),
    Mutant(
        "labels of strangers are formulas in spreadsheets",
        f"{KINDS}::test_csv_of_labels_of_strangers_is_no_formula",
        (
            (
                f"{ASSETS}/data.js",
                "const text = String(value).replace(",
                "const text = String(value); text.replace(",
            ),
        ),
    ),
    Mutant(
        "the colours of a map run backwards",
        f"{BROWSER}::test_colours_of_a_map_follow_its_figures",
        ((f"{ASSETS}/theme.js", "colours((value - from) / span)", "colours(1 - (value - from) / span)"),),
    ),
    Mutant(
        "a click on the map of layers chooses the one below",
        f"{BROWSER}::test_a_click_on_the_map_of_layers_and_times_chooses_the_layer",
        (
            (
                f"{ASSETS}/pictures.js",
                "pick: (row) => Report.choose(layers[row])",
                "pick: (row) => Report.choose(layers[row] + 1)",
            ),
        ),
    ),
    Mutant(
        "a page in the dark is printed dark",
        f"{BROWSER}::test_dark_mode_prints_on_white_paper",
        ((f"{ASSETS}/page.js", 'classList.toggle("paper", on)', 'classList.toggle("paper", false)'),),
    ),
    Mutant(
        "the difference of two recordings is that of the other and the first",
        f"{KINDS}::test_two_recordings_are_shown_beside_each_other_and_their_difference",
        ((f"{ASSETS}/pictures.js", "value - other[at]", "other[at] - value"),),
    ),
    Mutant(
        "an export hashes all leaves but the last",
        f"{METADATA}::test_the_digest_of_several_recordings_and_of_leaves_in_several_files",
        (
            (
                f"{EXPORT}/hashed_parts.py",
                "for first in firsts[1:]), leaves]",
                "for first in firsts[1:]), leaves - 1]",
            ),
        ),
    ),
    Mutant(
        "long names of layers lie upon each other in plots",
        "asking/test_plotting.py::test_long_names_do_not_lie_upon_each_other",
        ((PLOTTING, "        if place >= free:\n", "        if True:\n"),),
    ),
)
