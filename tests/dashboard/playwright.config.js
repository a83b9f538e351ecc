// How the dashboard is driven: main.rs starts a gateway with traffic and says where it is.
const { defineConfig } = require("@playwright/test");

module.exports = defineConfig({
  testDir: __dirname,
  outputDir: process.env.DASHBOARD_OUTPUT,
  workers: 2,
  fullyParallel: true,
  timeout: 30_000,
  expect: { timeout: 15_000 },
  reporter: "list",
  forbidOnly: true,
  use: {
    baseURL: process.env.DASHBOARD,
    launchOptions: {
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      // Who runs tests as root has no sandbox.
      args: ["--no-sandbox"],
    },
    viewport: { width: 1440, height: 900 },
  },
});
