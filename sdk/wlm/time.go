package wlm

import (
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
)

// ParseWhen reads a moment as --begin and sacct -S take it, relative to now
// and in now's location:
//
//	HH:MM[:SS] [AM|PM], midnight, noon, elevenses, fika, teatime
//	today, tomorrow, MMDD[YY], MM/DD[/YY], MM.DD[.YY], YYYY-MM-DD
//	a date and a time, with T, - or a space between: YYYY-MM-DDTHH:MM[:SS]
//	now[{+|-}count[seconds|minutes|hours|days|weeks]], uts<unix seconds>
//
// A date alone is its midnight. For a begin time, a time alone is its next
// occurrence and a date without year the next one; for a query, a time alone
// is today's and a date without year the last one.
//
// The error reads "Invalid time specification (pos=N): s", where N is the
// offset of what could not be read.
func ParseWhen(s string, now time.Time, forBegin bool) (Time, error) {
	p := whenParser{s: s, now: now, begin: forBegin}
	if t, ok := p.parse(); ok {
		return Time(t.Unix()), nil
	}
	return 0, errs.Newf("wlm.ParseWhen", errs.Invalid, "Invalid time specification (pos=%d): %s", p.pos, s)
}

// whenParser reads s from left to right. On failure, pos is the culprit.
type whenParser struct {
	s     string
	pos   int
	now   time.Time
	begin bool

	dated, timed     bool
	year, month, day int // year 0: not given
	hour, min, sec   int
}

// Words for a time of day.
var dayTimes = map[string]int{"midnight": 0, "noon": 12, "elevenses": 11, "fika": 15, "teatime": 16}

func (p *whenParser) parse() (time.Time, bool) {
	p.spaces()
	if word := p.peekWord(); word == "now" {
		return p.parseNow()
	} else if word == "uts" {
		p.pos += len(word)
		n, ok := p.number(1, 18)
		return time.Unix(int64(n), 0), ok && p.atEnd()
	}
	for first := true; ; first = false {
		p.spaces()
		if p.atEnd() {
			break
		}
		if !first && p.dated && !p.timed && strings.ContainsRune("Tt-", rune(p.s[p.pos])) && p.digitAt(p.pos+1) {
			p.pos++
		}
		if !p.item() {
			return time.Time{}, false
		}
	}
	if !p.dated && !p.timed {
		return time.Time{}, false
	}
	return p.resolve(), true
}

// item reads one date or one time of day.
func (p *whenParser) item() bool {
	start := p.pos
	if p.digitAt(start) {
		end := start
		for p.digitAt(end) {
			end++
		}
		if end < len(p.s) && p.s[end] == ':' {
			return !p.timed && p.timeOfDay()
		}
		return !p.dated && p.date(end)
	}
	word := p.peekWord()
	hour, isTime := dayTimes[word]
	switch {
	case isTime && !p.timed:
		p.hour, p.timed = hour, true
	case word == "today" && !p.dated:
		p.setDate(p.now)
	case word == "tomorrow" && !p.dated:
		p.setDate(p.now.AddDate(0, 0, 1))
	default:
		return false
	}
	p.pos += len(word)
	return true
}

func (p *whenParser) setDate(t time.Time) {
	y, m, d := t.Date()
	p.year, p.month, p.day, p.dated = y, int(m), d, true
}

// timeOfDay reads HH:MM[:SS] [AM|PM].
func (p *whenParser) timeOfDay() bool {
	start := p.pos
	ok := p.field(&p.hour, 0, 23) && p.char(':') && p.field(&p.min, 0, 59)
	if ok && p.pos < len(p.s) && p.s[p.pos] == ':' {
		ok = p.char(':') && p.field(&p.sec, 0, 59)
	}
	if !ok {
		return false
	}
	p.timed = true
	end := p.pos
	p.spaces()
	switch half := p.peekWord(); half {
	case "am", "pm":
		if p.hour < 1 || p.hour > 12 {
			p.pos = start
			return false
		}
		p.hour %= 12
		if half == "pm" {
			p.hour += 12
		}
		p.pos += len(half)
	default:
		p.pos = end
	}
	return true
}

// date reads a date in digits, whose first number ends at end.
func (p *whenParser) date(end int) bool {
	sep := byte(0)
	if end < len(p.s) {
		sep = p.s[end]
	}
	start := p.pos
	var dayAt int
	switch n := end - start; {
	case sep == '/' || sep == '.':
		if !p.field(&p.month, 1, 12) || !p.char(sep) {
			return false
		}
		dayAt = p.pos
		if !p.field(&p.day, 1, 31) {
			return false
		}
		if p.pos < len(p.s) && p.s[p.pos] == sep {
			p.pos++
			if !p.shortYear() {
				return false
			}
		}
	case sep == '-' && n == 4 && p.isoDate():
		if !p.shortYear() || !p.char('-') {
			return false
		}
		if !p.field(&p.month, 1, 12) || !p.char('-') {
			return false
		}
		dayAt = p.pos
		if !p.field(&p.day, 1, 31) {
			return false
		}
	case n == 4 || n == 6:
		dayAt = start + 2
		if !p.pair(&p.month, 12) || !p.pair(&p.day, 31) || n == 6 && !p.shortYear() {
			return false
		}
	default:
		return false
	}
	leap := 2000 // a year that has every day
	if p.year != 0 {
		leap = p.year
	}
	if time.Date(leap, time.Month(p.month), p.day, 0, 0, 0, 0, time.UTC).Day() != p.day {
		p.pos = dayAt
		return false
	}
	p.dated = true
	return true
}

// isoDate tells YYYY-MM-DD from MMDD-HH:MM: after the dash, the number is
// followed by another dash, or by nothing that a time would have.
func (p *whenParser) isoDate() bool {
	rest := p.s[p.pos+len("YYYY-"):]
	i := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	return i < 0 || rest[i] != ':'
}

// shortYear reads the last two digits of a year of this century, or all four.
func (p *whenParser) shortYear() bool {
	const epoch = 1970 // the first year whose moments are not negative
	at := p.pos
	n, ok := p.number(2, 4)
	switch p.pos - at {
	case 2:
		p.year = 2000 + n
	case 4:
		p.year = n
	default:
		ok = false
	}
	if !ok || p.year < epoch {
		p.pos = at
		return false
	}
	return true
}

// resolve turns what was read into a moment.
func (p *whenParser) resolve() time.Time {
	at := func(y int, m time.Month, d int) time.Time {
		return time.Date(y, m, d, p.hour, p.min, p.sec, 0, p.now.Location())
	}
	y, m, d := p.now.Date()
	if !p.dated {
		t := at(y, m, d)
		if p.begin && t.Before(p.now) {
			t = at(y, m, d+1)
		}
		return t
	}
	if p.year != 0 {
		return at(p.year, time.Month(p.month), p.day)
	}
	t := at(y, time.Month(p.month), p.day)
	today := int(m) == p.month && d == p.day && !p.timed
	switch {
	case p.begin && t.Before(p.now) && !today:
		return at(y+1, time.Month(p.month), p.day)
	case !p.begin && t.After(p.now):
		return at(y-1, time.Month(p.month), p.day)
	}
	return t
}

// Seconds of the units that may follow now+count.
var nowUnits = []struct {
	name    string
	seconds int64
}{{"seconds", 1}, {"minutes", secondsPerMinute}, {"hours", secondsPerHour}, {"days", secondsPerDay}, {"weeks", 7 * secondsPerDay}}

// parseNow reads now[{+|-}count[unit]]; a unit may be shortened.
func (p *whenParser) parseNow() (time.Time, bool) {
	p.pos += len("now")
	p.spaces()
	if p.atEnd() {
		return p.now, true
	}
	sign := int64(1)
	switch p.s[p.pos] {
	case '+':
	case '-':
		sign = -1
	default:
		return time.Time{}, false
	}
	p.pos++
	p.spaces()
	n, ok := p.number(1, 9)
	if !ok {
		return time.Time{}, false
	}
	p.spaces()
	unit := int64(1)
	if word := p.peekWord(); word != "" {
		ok = false
		for _, u := range nowUnits {
			if strings.HasPrefix(u.name, word) {
				unit, ok = u.seconds, true
				break
			}
		}
		if !ok {
			return time.Time{}, false
		}
		p.pos += len(word)
		p.spaces()
	}
	return time.Unix(p.now.Unix()+sign*int64(n)*unit, 0), p.atEnd()
}

func (p *whenParser) atEnd() bool { return p.pos >= len(p.s) }

func (p *whenParser) digitAt(i int) bool { return i < len(p.s) && p.s[i] >= '0' && p.s[i] <= '9' }

func (p *whenParser) spaces() {
	for p.pos < len(p.s) && (p.s[p.pos] == ' ' || p.s[p.pos] == '\t') {
		p.pos++
	}
}

// peekWord is the run of letters at pos, in lower case.
func (p *whenParser) peekWord() string {
	end := p.pos
	for end < len(p.s) && (p.s[end]|0x20) >= 'a' && (p.s[end]|0x20) <= 'z' {
		end++
	}
	return strings.ToLower(p.s[p.pos:end])
}

func (p *whenParser) char(c byte) bool {
	if p.atEnd() || p.s[p.pos] != c {
		return false
	}
	p.pos++
	return true
}

// number reads from least to most digits.
func (p *whenParser) number(least, most int) (int, bool) {
	end := p.pos
	for p.digitAt(end) {
		end++
	}
	if n := end - p.pos; n < least || n > most {
		return 0, false
	}
	n, err := strconv.Atoi(p.s[p.pos:end])
	p.pos = end
	return n, err == nil
}

// field reads one or two digits between lo and hi; pos stays when it cannot.
func (p *whenParser) field(to *int, lo, hi int) bool {
	at := p.pos
	n, ok := p.number(1, 2)
	if !ok || n < lo || n > hi {
		p.pos = at
		return false
	}
	*to = n
	return true
}

// pair reads exactly two of the digits at pos, between 1 and hi.
func (p *whenParser) pair(to *int, hi int) bool {
	n, err := strconv.Atoi(p.s[p.pos : p.pos+2])
	if err != nil || n < 1 || n > hi {
		return false
	}
	*to = n
	p.pos += 2
	return true
}

const timeLayout = "2006-01-02T15:04:05"

// FormatTime prints t in local time as 2006-01-02T15:04:05, and none
// (Unknown, N/A, None, as the field has it) when t is 0.
func FormatTime(t Time, none string) string {
	if t == 0 {
		return none
	}
	return t.Std().Format(timeLayout)
}

// FormatTimeEnv is [FormatTimeAs] with the format of SLURM_TIME_FORMAT.
func FormatTimeEnv(t Time, none string, now time.Time) string {
	return FormatTimeAs(t, none, os.Getenv("SLURM_TIME_FORMAT"), now)
}

// FormatTimeAs prints t as format says: standard or empty, relative (to the
// day of now, as squeue(1) describes it), or a format of strftime(3). Times
// are in now's location. A t of 0 prints none.
func FormatTimeAs(t Time, none, format string, now time.Time) string {
	if t == 0 {
		return none
	}
	at := t.Std().In(now.Location())
	switch format {
	case "", "standard":
		return at.Format(timeLayout)
	case "relative":
		return relative(at, now)
	}
	return strftime(at, format)
}

func relative(at, now time.Time) string {
	noon := func(t time.Time) time.Time { // of its day, so that a day's length does not matter
		y, m, d := t.Date()
		return time.Date(y, m, d, 12, 0, 0, 0, time.UTC)
	}
	switch days := int(noon(at).Sub(noon(now)).Hours()) / 24; {
	case days == 0:
		return at.Format("15:04:05")
	case days == 1:
		return at.Format("Tomorr 15:04")
	case days == -1:
		return at.Format("Ystday 15:04")
	case days > 1 && days < 7:
		return at.Format("Mon 15:04")
	case at.Year() == now.Year():
		return at.Format("2 Jan 15:04")
	}
	return at.Format("2 Jan 2006")
}

// layouts are the conversions of strftime(3), in the C locale, that package
// time can print.
var layouts = map[byte]string{
	'a': "Mon", 'A': "Monday", 'b': "Jan", 'B': "January", 'h': "Jan", 'c': "Mon Jan _2 15:04:05 2006",
	'd': "02", 'D': "01/02/06", 'e': "_2", 'F': "2006-01-02", 'H': "15", 'I': "03", 'j': "002", 'm': "01",
	'M': "04", 'p': "PM", 'P': "pm", 'r': "03:04:05 PM", 'R': "15:04", 'S': "05", 'T': "15:04:05",
	'x': "01/02/06", 'X': "15:04:05", 'y': "06", 'Y': "2006", 'z': "-0700", 'Z': "MST",
}

// strftime prints t; a conversion it does not know stays as written.
func strftime(t time.Time, format string) string {
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			b.WriteByte(format[i])
			continue
		}
		i++
		if layout, ok := layouts[format[i]]; ok {
			b.WriteString(t.Format(layout))
			continue
		}
		switch isoYear, isoWeek := t.ISOWeek(); format[i] {
		case '%':
			b.WriteByte('%')
		case 'n':
			b.WriteByte('\n')
		case 't':
			b.WriteByte('\t')
		case 's':
			b.WriteString(strconv.FormatInt(t.Unix(), 10))
		case 'k':
			b.WriteString(padLeft(t.Hour(), ' '))
		case 'l':
			b.WriteString(padLeft((t.Hour()+11)%12+1, ' '))
		case 'C':
			b.WriteString(padLeft(t.Year()/100, '0'))
		case 'u':
			b.WriteString(strconv.Itoa((int(t.Weekday())+6)%7 + 1))
		case 'w':
			b.WriteString(strconv.Itoa(int(t.Weekday())))
		case 'U':
			b.WriteString(padLeft((t.YearDay()+6-int(t.Weekday()))/7, '0'))
		case 'W':
			b.WriteString(padLeft((t.YearDay()+6-(int(t.Weekday())+6)%7)/7, '0'))
		case 'V':
			b.WriteString(padLeft(isoWeek, '0'))
		case 'G':
			b.WriteString(strconv.Itoa(isoYear))
		case 'g':
			b.WriteString(padLeft(isoYear%100, '0'))
		default:
			b.WriteByte('%')
			b.WriteByte(format[i])
		}
	}
	return b.String()
}

// padLeft prints n with at least two places.
func padLeft(n int, with byte) string {
	s := strconv.Itoa(n)
	if len(s) < 2 {
		return string(with) + s
	}
	return s
}
