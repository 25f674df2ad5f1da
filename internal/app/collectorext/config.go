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
	Wait        model.Duration `mapstructure:"wait"`
	MaxPending  int            `mapstructure:"max_pending"`
	MemoryLimit app.Bytes      `mapstructure:"memory_limit"`
	Analyse     int            `mapstructure:"analyse"`
}

// DefaultConfig returns app.DefaultConfig and ingest.DefaultConfig.
func DefaultConfig() *Config {
	in := ingest.DefaultConfig()
	return &Config{
		App: app.DefaultConfig(),
		Intake: IntakeConfig{
			Wait: model.Duration(in.Wait), MaxPending: in.MaxPending, MemoryLimit: app.Bytes(in.MemoryLimit), Analyse: in.Analyse,
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
	if c.MemoryLimit < 1<<20 {
		errs = append(errs, fmt.Errorf("intake::memory_limit: %s is less than 1MiB", c.MemoryLimit))
	} else if total > 0 && c.MemoryLimit > total {
		errs = append(errs, fmt.Errorf("intake::memory_limit: %s is more than the whole process's memory_limit, %s", c.MemoryLimit, total))
	}
	if c.Analyse < 0 || c.Analyse > 1_000_000 {
		errs = append(errs, fmt.Errorf("intake::analyse: %d is not within 0 and 1000000", c.Analyse))
	}
	return errors.Join(errs...)
}

// ingest returns the limits as an Intake takes them.
func (c *IntakeConfig) ingest() ingest.Config {
	cfg := ingest.DefaultConfig()
	cfg.Wait, cfg.MaxPending, cfg.MemoryLimit = time.Duration(c.Wait), c.MaxPending, int64(c.MemoryLimit)
	cfg.Analyse = c.Analyse
	return cfg
}
