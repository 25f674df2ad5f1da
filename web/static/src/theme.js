// Runs before the first paint, so that nothing flashes: takes the theme the viewer chose, and says that scripts run.
const root = document.documentElement;
root.classList.add('js');
try {
  const theme = localStorage.getItem('faultline.theme');
  if (theme === 'dark' || theme === 'light') root.dataset.theme = theme;
} catch { /* no storage: follow the system */ }
