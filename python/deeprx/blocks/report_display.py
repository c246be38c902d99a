# SPDX-License-Identifier: GPL-3.0-or-later
"""report_display: what slot probes report, as a Qt widget. Apart from the package: it needs Qt."""

import html

import numpy as np
import pmt
from gnuradio import gr
from PyQt5 import QtCore, QtGui, QtWidgets  # GNU Radio's Qt; pyqtgraph takes what is there already

# isort: split
import pyqtgraph

from deeprx_common import report_view

from .guarded import SelfKeeping
from .messages import read_report

_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf")
_MARKERS = ("o", "s", "t1", "d")
_LOWEST_BER = 1e-9  # an interval that reaches 0 must end somewhere on a logarithmic axis
_COLUMNS = {
    "receiver": "its model's name",
    "SINR\ndB": "per data resource element and antenna",
    "bit error\nrate": "uncoded, over the slots since the conditions last changed",
    "95 % interval": "over clusters of slots, i.e. independent channels",
    "block error\nrate": "of transport blocks' first transmissions",
    "goodput\nMbit/s": "information bits delivered in the time on air",
    "slots": "received since the conditions last changed",
    "missed": "not received: lost by the synchroniser, or dropped",
    "inference\nms (99 %)": "median, and 99th percentile, of the time of one slot",
    "CPU ms\nper slot": "of the receiver's threads",
    "energy\nmJ per slot": "measured, or attributed by CPU time or by time on the GPU",
    "modelled\nmJ per slot": "CPU time, or time on the GPU, at a stated power",
}
_OF_BLOCKS = (4, 5)  # shown where there are any


class report_display(SelfKeeping, gr.basic_block):
    """Bit error rate over SINR, and a table of errors, time and energy, of any number of receivers.

    Message port in `report`: from slot_probe's port of that name; connect several. A curve keeps
    the last point of each SINR, a row the last report of each receiver; where the SINR is unknown,
    as with a radio, there is no curve. Below, what counted the energy. `widget` is the Qt widget.
    """

    def __init__(self):
        super().__init__("Report display", None, None)
        self.widget = _Widget()
        self.message_port_register_in(pmt.intern("report"))
        self.set_msg_handler(pmt.intern("report"), self._handle)

    def _handle(self, message):
        self.widget.received.emit(read_report(message))  # Qt draws in a thread of its own


class _Widget(QtWidgets.QWidget):
    received = QtCore.pyqtSignal(dict)

    def __init__(self):
        super().__init__()
        self._points = {}  # receiver: {SINR: its last point}
        self._latest = {}  # receiver: its last point
        self._plot = pyqtgraph.PlotWidget(background="w")
        self._plot.setLabels(left="bit error rate", bottom="SINR (dB)")
        self._plot.showGrid(x=True, y=True, alpha=0.25)
        self._plot.getAxis("left").setLogMode(True)  # only its labels: what is drawn is log10
        for side in ("left", "bottom"):
            self._plot.getAxis(side).setTextPen("k")
        self._plot.addLegend(offset=(20, -20), labelTextColor="k")  # where no curve goes
        self._table = QtWidgets.QTableWidget(0, len(_COLUMNS))
        self._table.setHorizontalHeaderLabels(list(_COLUMNS))
        for column, explained in enumerate(_COLUMNS.values()):
            self._table.horizontalHeaderItem(column).setToolTip(explained)
        self._table.verticalHeader().hide()
        self._table.setEditTriggers(QtWidgets.QAbstractItemView.NoEditTriggers)
        self._table.setSelectionMode(QtWidgets.QAbstractItemView.NoSelection)
        header = self._table.horizontalHeader()
        header.setSectionResizeMode(QtWidgets.QHeaderView.ResizeToContents)
        for column in (1, 6):  # short texts share what is left
            header.setSectionResizeMode(column, QtWidgets.QHeaderView.Stretch)
        layout = QtWidgets.QVBoxLayout(self)
        layout.addWidget(self._plot, 1)
        layout.addWidget(self._table)
        self._source = QtWidgets.QLabel()
        self._source.setTextFormat(QtCore.Qt.PlainText)
        self._source.setWordWrap(True)
        layout.addWidget(self._source)
        self.received.connect(self._show)

    def hasHeightForWidth(self) -> bool:
        """Not what the text's lines give: a window would scroll where the plot could shrink."""
        return False

    def _show(self, received: dict) -> None:
        for point in received["points"]:
            if point["receiver"] == "unknown" and not point["slots"]:
                continue  # a probe learns its receiver's name from the first slot's message
            if point["receiver"] != "unknown":  # what it counted before is in this point
                self._latest.pop("unknown", None)
                self._points.pop("unknown", None)
            self._latest[point["receiver"]] = point
            if point["sinr_db"] is not None and point["ber"] is not None:
                curve = self._points.setdefault(point["receiver"], {})
                curve[point["sinr_db"]] = point
        self._fill_table()
        self._draw_curves()

    def _fill_table(self) -> None:
        names = sorted(self._latest)
        self._table.setRowCount(len(names))
        blocks = any(p.get("bler") is not None for p in self._latest.values())
        for column in _OF_BLOCKS:
            self._table.setColumnHidden(column, not blocks)
        for row, name in enumerate(names):
            for column, text in enumerate(_cells(self._latest[name])):
                item = QtWidgets.QTableWidgetItem(text)
                item.setTextAlignment(QtCore.Qt.AlignVCenter | QtCore.Qt.AlignHCenter)
                if column == 0:
                    item.setForeground(QtGui.QColor(_COLOURS[row % len(_COLOURS)]))
                self._table.setItem(row, column, item)
        self._source.setText("\n".join(report_view.energy_sources(list(self._latest.values()))))
        height = self._table.horizontalHeader().height() + 2 * self._table.frameWidth()
        self._table.setFixedHeight(height + sum(map(self._table.rowHeight, range(len(names)))))

    def _draw_curves(self) -> None:
        self._plot.clear()
        shown = [p for curve in self._points.values() for p in curve.values()]
        for row, name in enumerate(sorted(self._points)):
            colour, marker = _COLOURS[row % len(_COLOURS)], _MARKERS[row % len(_MARKERS)]
            style = {"symbol": marker, "symbolBrush": colour, "symbolPen": colour, "symbolSize": 8}
            curve = [p for _, p in sorted(self._points[name].items())]
            if counted := [p for p in curve if p["bit_errors"]]:
                sinr, ber = _arrays(counted, lambda p: p["ber"])
                _, low = _arrays(counted, lambda p: p["ber_ci95"][0])
                _, high = _arrays(counted, lambda p: p["ber_ci95"][1])
                # pyqtgraph 0.13 cannot draw a line through one point
                pen = pyqtgraph.mkPen(colour, width=2) if len(counted) > 1 else None
                shown_name = html.escape(name)  # a legend is HTML, which may name files to show
                self._plot.plot(sinr, ber, name=shown_name, pen=pen, **style)
                bars = {"top": high - ber, "bottom": ber - low, "beam": 0.2, "pen": colour}
                self._plot.addItem(pyqtgraph.ErrorBarItem(x=sinr, y=ber, **bars))
            if without := [p for p in curve if not p["bit_errors"]]:  # only a bound is known
                sinr, bound = _arrays(without, lambda p: p["ber_ci95"][1])
                self._plot.plot(sinr, bound, pen=None, **style | {"symbol": "arrow_down"})
        if shown:
            sinr, _ = _arrays(shown, lambda p: 1)
            _, bounds = _arrays(shown, lambda p: p["ber_ci95"][bool(p["bit_errors"]) - 1])
            self._plot.setXRange(min(0, sinr.min() - 1), max(20, sinr.max() + 1))
            self._plot.setYRange(min(-3, bounds.min()), -0.3)


def _arrays(points, value) -> tuple[np.ndarray, np.ndarray]:
    """SINR in dB, and the decimal logarithm of a value, of each point."""
    sinr = np.array([p["sinr_db"] for p in points], float)
    return sinr, np.log10(np.maximum([value(p) for p in points], _LOWEST_BER))


def _cells(point: dict) -> list[str]:
    """A row of the table, in the order of _COLUMNS."""
    times = point["inference_s_per_slot"]
    used = point["energy_per_slot_j"]
    counted = [(used[kind], kind) for kind in ("measured", "attributed") if used[kind] is not None]
    energy = (
        "{} {}".format(report_view.number(counted[0][0], "{:.3g}", 1e3), counted[0][1])
        if counted
        else "–"
    )
    interval = "–"
    if point["ber"] is not None:
        interval = "{:.1e} … {:.1e}".format(*point["ber_ci95"])
    return [
        point["receiver"],
        report_view.number(point["sinr_db"], "{:.1f}"),
        report_view.number(point["ber"], "{:.2e}"),
        interval,
        report_view.number(point.get("bler"), "{:.2e}"),
        report_view.number(point.get("goodput_bit_per_s"), "{:.2f}", 1e-6),
        str(point["slots"]),
        str(point["missed_slots"]),
        "{} ({})".format(*(report_view.number(times[k], "{:.2f}", 1e3) for k in ("p50", "p99"))),
        report_view.number(point["cpu_s_per_slot"], "{:.2f}", 1e3),
        energy,
        report_view.number(used["modelled"], "{:.3g}", 1e3),
    ]
