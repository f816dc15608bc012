package wire

import "bytes"

// skipper finds where JSON values begin and end, by brackets and quotes alone. It passes
// over values of any depth, so that one event of a batch that is too deep for a decoder
// does not cost the others. It does not check the grammar; its results are checked
// afterwards.
type skipper struct {
	b []byte
	i int
	// deepest is how many levels of arrays and objects the last value had.
	deepest int
}

// depth is how many levels of arrays and objects the next value has.
func (s *skipper) depth() int {
	s.value()
	return s.deepest
}

// peek skips white space and returns the byte after it; 0 at the end.
func (s *skipper) peek() byte {
	for ; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

// next takes the byte c, after white space; false where the next byte is another.
func (s *skipper) next(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.i++
	return true
}

// value takes the next value; false where none begins, or it does not end.
func (s *skipper) value() ([]byte, bool) {
	s.deepest = 0
	c := s.peek()
	start := s.i
	switch c {
	case '"':
		ok := s.text()
		return s.b[start:s.i], ok
	case '{', '[':
		ok := s.nested()
		return s.b[start:s.i], ok
	}
	n := bytes.IndexAny(s.b[s.i:], " \t\n\r,:]}[{\"")
	if n < 0 {
		n = len(s.b) - s.i
	}
	s.i += n
	return s.b[start:s.i], n > 0
}

// text skips a string, whose opening quote is the next byte.
func (s *skipper) text() bool {
	for s.i++; ; {
		n := bytes.IndexByte(s.b[s.i:], '"')
		if n < 0 {
			s.i = len(s.b)
			return false
		}
		end := s.i + n
		escapes := 0
		for end-escapes > s.i && s.b[end-escapes-1] == '\\' {
			escapes++
		}
		s.i = end + 1
		if escapes%2 == 0 {
			return true
		}
	}
}

// nested skips an array or object, whose opening bracket is the next byte. Down to the
// deepest level that is accepted it checks that brackets match; below, it only counts
// them.
func (s *skipper) nested() bool {
	var objects [MaxDepth + aroundSend + 2]bool
	depth := 0
	for s.i < len(s.b) {
		switch c := s.b[s.i]; c {
		case '"':
			if !s.text() {
				return false
			}
			continue
		case '{', '[':
			if depth < len(objects) {
				objects[depth] = c == '{'
			}
			depth++
			s.deepest = max(s.deepest, depth)
		case '}', ']':
			depth--
			if depth < len(objects) && objects[depth] != (c == '}') {
				return false
			}
		}
		s.i++
		if depth == 0 {
			return true
		}
	}
	return false
}

// elements calls take with each element of an array, until take returns false. It
// returns false where the array's brackets and commas are not in order.
func elements(list []byte, take func(value []byte) bool) bool {
	s := skipper{b: list}
	if !s.next('[') {
		return false
	}
	if s.next(']') {
		return s.peek() == 0 && s.i == len(list)
	}
	for {
		value, ok := s.value()
		if !ok {
			return false
		}
		if !take(value) {
			return true
		}
		if s.next(']') {
			return s.peek() == 0 && s.i == len(list)
		}
		if !s.next(',') {
			return false
		}
	}
}

// members calls take with each member of an object; the name is still quoted. It returns
// false where the object's brackets, colons and commas are not in order.
func members(object []byte, take func(name, value []byte)) bool {
	s := skipper{b: object}
	if !s.next('{') {
		return false
	}
	if s.next('}') {
		return s.peek() == 0 && s.i == len(object)
	}
	for {
		if s.peek() != '"' {
			return false
		}
		name, ok := s.value()
		if !ok || !s.next(':') {
			return false
		}
		value, ok := s.value()
		if !ok {
			return false
		}
		take(name, value)
		if s.next('}') {
			return s.peek() == 0 && s.i == len(object)
		}
		if !s.next(',') {
			return false
		}
	}
}
