// Package chart draws plots as SVG, without a library: a figure is a grid of
// panels of bars or lines. It is pure; the same input gives the same bytes.
package chart

import (
	"bufio"
	"fmt"
	"html"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Figure is some panels under a title.
type Figure struct {
	Title  string
	Panels []Panel
}

// Panel is one plot: bars where Bars is set, else lines.
type Panel struct {
	Title  string
	XLabel string
	YLabel string
	LogX   bool
	LogY   bool
	Bars   []Bar
	Lines  []Line
}

// Bar is one bar of a panel; Color numbers it in the palette.
type Bar struct {
	Name  string
	Value float64
	Color int
}

// Line is one line of a panel, points in rising order of X.
type Line struct {
	Name  string
	X, Y  []float64
	Color int
	Dots  bool // mark the points
}

// The sizes of a figure, in pixels.
const (
	panelWidth  = 420
	panelHeight = 300
	columns     = 2
	headHeight  = 40
	left        = 64
	right       = 14
	top         = 34
	bottom      = 46
)

// palette is Okabe and Ito's, which colour-blind readers can tell apart.
var palette = []string{"#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999"}

func color(i int) string { return palette[i%len(palette)] }

// SVG writes the figure.
func (f *Figure) SVG(w io.Writer) error {
	b := bufio.NewWriter(w)
	b.WriteString(f.svg()) //nolint:errcheck // Flush tells
	return b.Flush()
}

// HTML writes a page with the figure and a table of plain text.
func (f *Figure) HTML(w io.Writer, table string) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>%s</title>\n"+ //nolint:errcheck // Flush tells
		"<style>body{font-family:sans-serif;margin:2em}</style></head><body>\n%s<pre>%s</pre>\n</body></html>\n",
		html.EscapeString(f.Title), f.svg(), html.EscapeString(table))
	return b.Flush()
}

func (f *Figure) svg() string {
	var b strings.Builder
	rows := (len(f.Panels) + columns - 1) / columns
	width, height := panelWidth*min(columns, max(len(f.Panels), 1)), headHeight+rows*panelHeight
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11">`+"\n",
		width, height, width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, height)
	text(&b, float64(width)/2, 24, "middle", 15, f.Title)
	for i := range f.Panels {
		fmt.Fprintf(&b, `<g transform="translate(%d %d)">`+"\n", i%columns*panelWidth, headHeight+i/columns*panelHeight)
		f.Panels[i].draw(&b)
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func text(b *strings.Builder, x, y float64, anchor string, size int, s string) {
	fmt.Fprintf(b, `<text x="%s" y="%s" text-anchor="%s" font-size="%d">%s</text>`+"\n", px(x), px(y), anchor, size, html.EscapeString(s))
}

func px(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }

// axis maps values to pixels.
type axis struct {
	lo, hi, from, to float64
	log              bool
}

func (a axis) at(v float64) float64 {
	lo, hi := a.lo, a.hi
	if a.log {
		lo, hi, v = math.Log10(lo), math.Log10(hi), math.Log10(max(v, a.lo))
	}
	return a.from + (v-lo)/(hi-lo)*(a.to-a.from)
}

// newAxis spans values with round ends; an axis that is not logarithmic begins
// at zero.
func newAxis(values []float64, log bool, from, to float64) axis {
	lo, hi := math.Inf(1), 0.0
	for _, v := range values {
		if v > 0 {
			lo = min(lo, v)
		}
		hi = max(hi, v)
	}
	if hi <= 0 {
		lo, hi = 0.1, 1
	}
	if !log {
		step := roundStep(hi / 5)
		return axis{lo: 0, hi: math.Ceil(hi/step) * step, from: from, to: to}
	}
	lo, hi = math.Pow(10, math.Floor(math.Log10(lo))), math.Pow(10, math.Ceil(math.Log10(hi)))
	if lo == hi {
		hi *= 10
	}
	return axis{lo: lo, hi: hi, from: from, to: to, log: true}
}

// roundStep is the next of 1, 2 and 5 times a power of ten.
func roundStep(v float64) float64 {
	p := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5, 10} {
		if m*p >= v*0.999 {
			return m * p
		}
	}
	return 10 * p
}

// ticks are the values to label.
func (a axis) ticks() []float64 {
	var out []float64
	if a.log {
		for v := a.lo; v <= a.hi*1.001; v *= 10 {
			out = append(out, v)
		}
		return out
	}
	for step, v := roundStep(a.hi/5), 0.0; v <= a.hi*1.001; v += step {
		out = append(out, v)
	}
	return out
}

// short prints a number for an axis.
func short(v float64) string {
	for _, u := range []struct {
		at   float64
		name string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if v >= u.at {
			return strconv.FormatFloat(v/u.at, 'g', 4, 64) + u.name
		}
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

func (p *Panel) draw(b *strings.Builder) {
	text(b, panelWidth/2, 20, "middle", 12, p.Title)
	var ys, xs []float64
	for _, v := range p.Bars {
		ys = append(ys, v.Value)
	}
	for _, l := range p.Lines {
		ys, xs = append(ys, l.Y...), append(xs, l.X...)
	}
	y := newAxis(ys, p.LogY, panelHeight-bottom, top)
	for _, v := range y.ticks() {
		fmt.Fprintf(b, `<line x1="%d" x2="%d" y1="%s" y2="%s" stroke="#ddd"/>`+"\n", left, panelWidth-right, px(y.at(v)), px(y.at(v)))
		text(b, left-6, y.at(v)+4, "end", 10, short(v))
	}
	fmt.Fprintf(b, `<text transform="translate(14 %d) rotate(-90)" text-anchor="middle" font-size="11">%s</text>`+"\n",
		(panelHeight-bottom+top)/2, html.EscapeString(p.YLabel))
	if len(p.Bars) > 0 {
		p.bars(b, y)
	} else {
		p.lines(b, newAxis(xs, p.LogX, left, panelWidth-right), y)
	}
	fmt.Fprintf(b, `<path d="M%d %d V%d H%d" fill="none" stroke="#333"/>`+"\n", left, top, panelHeight-bottom, panelWidth-right)
}

func (p *Panel) bars(b *strings.Builder, y axis) {
	slot := float64(panelWidth-left-right) / float64(len(p.Bars))
	for i, v := range p.Bars {
		x := left + slot*(float64(i)+0.15)
		fmt.Fprintf(b, `<rect x="%s" y="%s" width="%s" height="%s" fill="%s"/>`+"\n", px(x), px(y.at(v.Value)), px(slot*0.7),
			px(float64(panelHeight-bottom)-y.at(v.Value)), color(v.Color))
		text(b, x+slot*0.35, y.at(v.Value)-4, "middle", 10, strconv.FormatFloat(v.Value, 'f', digits(v.Value), 64))
		line := float64(panelHeight-bottom) + 14
		if len(p.Bars) > 4 && i%2 == 1 {
			line += 13 // so that long names have room
		}
		text(b, x+slot*0.35, line, "middle", 10, v.Name)
	}
}

func digits(v float64) int {
	switch {
	case v >= 1000:
		return 0
	case v >= 10:
		return 1
	}
	return 3
}

func (p *Panel) lines(b *strings.Builder, x, y axis) {
	for _, v := range x.ticks() {
		fmt.Fprintf(b, `<line x1="%s" x2="%s" y1="%d" y2="%d" stroke="#eee"/>`+"\n", px(x.at(v)), px(x.at(v)), top, panelHeight-bottom)
		text(b, x.at(v), panelHeight-bottom+14, "middle", 10, short(v))
	}
	text(b, (left+panelWidth-right)/2, panelHeight-bottom+32, "middle", 11, p.XLabel)
	for i, l := range p.Lines {
		var path strings.Builder
		for k := range l.X {
			c := 'L'
			if k == 0 {
				c = 'M'
			}
			fmt.Fprintf(&path, "%c%s %s", c, px(x.at(l.X[k])), px(y.at(l.Y[k])))
			if l.Dots {
				fmt.Fprintf(b, `<circle cx="%s" cy="%s" r="3" fill="%s"/>`+"\n", px(x.at(l.X[k])), px(y.at(l.Y[k])), color(l.Color))
			}
		}
		fmt.Fprintf(b, `<path d="%s" fill="none" stroke="%s" stroke-width="1.5"/>`+"\n", path.String(), color(l.Color))
		at := float64(top + 8 + 14*i)
		fmt.Fprintf(b, `<line x1="%d" x2="%d" y1="%s" y2="%s" stroke="%s" stroke-width="3"/>`+"\n", left+8, left+24, px(at), px(at), color(l.Color))
		text(b, left+30, at+4, "start", 10, l.Name)
	}
}

// Cumulative is the share of values up to each of them as a line, thinned to
// what a picture can show. Values below floor count as floor.
func Cumulative(name string, values []float64, floor float64, col int) Line {
	v := slices.Clone(values)
	slices.Sort(v)
	const points = 200
	l := Line{Name: name, Color: col}
	for k := range points + 1 {
		i := min(k*len(v)/points, len(v)-1)
		if i < 0 {
			break
		}
		l.X, l.Y = append(l.X, max(v[i], floor)), append(l.Y, float64(k)/points)
	}
	return l
}
