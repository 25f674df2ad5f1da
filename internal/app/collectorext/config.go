package collectorext

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/common/model"

	"faultline/ingest"
	"faultline/internal/app"
)

// Config is the section extensions::faultline of the Collector's YAML.
type Config struct {
	App    app.Config   `mapstructure:",squash"`
	Intake IntakeConfig `mapstructure:"intake"`
}

// IntakeConfig bounds the spans in flight, see ingest.Config.
type IntakeConfig struct {
	Wait       model.Duration `mapstructure:"wait"`
	MaxPending int            `mapstructure:"max_pending"`
	// MemoryLimit 0 stands for a share of the whole process's limit, see ingest.
	MemoryLimit app.Bytes `mapstructure:"memory_limit"`
	Analyse     int       `mapstructure:"analyse"`
}

// DefaultConfig returns app.DefaultConfig and ingest.DefaultConfig.
func DefaultConfig() *Config {
	in := ingest.DefaultConfig()
	return &Config{
		App: app.DefaultConfig(),
		Intake: IntakeConfig{
			Wait: model.Duration(in.Wait), MaxPending: in.MaxPending, Analyse: in.Analyse,
		},
	}
}

// Validate implements the Collector's interface for configurations.
func (c *Config) Validate() error {
	_, err := c.App.Validate() // whose warnings App logs when it starts
	return errors.Join(err, c.Intake.validate(c.App.MemoryLimit))
}

func (c *IntakeConfig) validate(total app.Bytes) error {
	var errs []error
	if wait := time.Duration(c.Wait); wait < time.Second || wait > time.Minute {
		errs = append(errs, fmt.Errorf("intake::wait: %s is not within 1s and 1m", c.Wait))
	}
	if c.MaxPending < 1000 || c.MaxPending > 100_000_000 {
		errs = append(errs, fmt.Errorf("intake::max_pending: %d is not within 1000 and 100000000", c.MaxPending))
	}
	if c.MemoryLimit != 0 && c.MemoryLimit < 1<<20 {
		errs = append(errs, fmt.Errorf("intake::memory_limit: %s is less than 1MiB", c.MemoryLimit))
	} else if total > 0 && c.MemoryLimit > total {
		errs = append(errs, fmt.Errorf("intake::memory_limit: %s is more than the whole process's memory_limit, %s", c.MemoryLimit, total))
	}
	if c.Analyse < 0 || c.Analyse > 1_000_000 {
		errs = append(errs, fmt.Errorf("intake::analyse: %d is not within 0 and 1000000", c.Analyse))
	}
	return errors.Join(errs...)
}

// ingest returns the limits as an Intake takes them, in a process with a limit of total. Unless told otherwise, spans may
// take three eighths of that, and no more than ingest.DefaultConfig gives them.
func (c *IntakeConfig) ingest(total app.Bytes) ingest.Config {
	cfg := ingest.DefaultConfig()
	cfg.Wait, cfg.MaxPending, cfg.Analyse = time.Duration(c.Wait), c.MaxPending, c.Analyse
	switch {
	case c.MemoryLimit > 0:
		cfg.MemoryLimit = int64(c.MemoryLimit)
	case total > 0:
		cfg.MemoryLimit = min(cfg.MemoryLimit, int64(total)*3/8)
	}
	return cfg
}
