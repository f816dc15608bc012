package server

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"hookbridge/app/bridge"
	"hookbridge/auth"
	"hookbridge/handlers"
)

// envSender names the holders of BRIDGE_WEBHOOK_SECRETS, who may send anything
// to anybody.
const envSender = "default"

// webhooks makes the signature checker, and tells whose each of its keys is.
func (s *Settings) webhooks() (*auth.Webhooks, []handlers.SenderKey, error) {
	senders, err := s.senders()
	if err != nil {
		return nil, nil, err
	}
	w, names, err := auth.NewSenderWebhooks(senders)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", s.secretsSetting(), err)
	}
	keys := make([]handlers.SenderKey, len(names))
	for i, name := range names {
		for _, n := range senders {
			if n.Name == name {
				keys[i] = handlers.SenderKey{Sender: bridge.Sender{Name: n.Name, Types: n.Types, To: n.To, Apart: n.Name != envSender || len(s.WebhookSecrets) == 0}, Rate: n.Rate, Burst: n.Burst}
			}
		}
	}
	return w, keys, nil
}

// senders are those of the file, and the one of the environment.
func (s *Settings) senders() ([]auth.Sender, error) {
	var senders []auth.Sender
	if s.SecretsFile != "" {
		b, err := ReadRegular(s.SecretsFile, maxSettingsFile)
		if err != nil {
			return nil, fmt.Errorf("BRIDGE_WEBHOOK_SECRETS_FILE cannot be read: %w", err)
		}
		if senders, err = auth.ParseSenders(b); err != nil {
			return nil, fmt.Errorf("BRIDGE_WEBHOOK_SECRETS_FILE: %w", err)
		}
		for _, n := range senders {
			if slices.ContainsFunc(n.Secrets, IsDevWebhookSecret) {
				return nil, fmt.Errorf("BRIDGE_WEBHOOK_SECRETS_FILE: sender %s has a secret that dev made: make one with: openssl rand -base64 32", n.Name)
			}
			if n.Name == envSender && len(s.WebhookSecrets) > 0 {
				return nil, errors.New("BRIDGE_WEBHOOK_SECRETS_FILE: the name " + envSender + " is that of BRIDGE_WEBHOOK_SECRETS; choose another, or set only one of the two")
			}
		}
	}
	if len(s.WebhookSecrets) > 0 {
		n := auth.Sender{Name: envSender}
		for _, w := range s.WebhookSecrets {
			n.Secrets = append(n.Secrets, strings.TrimSpace(string(w)))
		}
		senders = append(senders, n)
	}
	return senders, nil
}

func (s *Settings) secretsSetting() string {
	switch {
	case s.SecretsFile == "":
		return "BRIDGE_WEBHOOK_SECRETS"
	case len(s.WebhookSecrets) == 0:
		return "BRIDGE_WEBHOOK_SECRETS_FILE"
	}
	return "BRIDGE_WEBHOOK_SECRETS and BRIDGE_WEBHOOK_SECRETS_FILE"
}
