package bridge

// Policy is what a token's rights claim allows.
type Policy struct {
	Send []string
}
