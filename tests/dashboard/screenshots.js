// Takes the pictures of the README: the top of the page, light and dark.
const { chromium } = require("@playwright/test");
const { isLive } = require("./support");

(async () => {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
  for (const colorScheme of ["light", "dark"]) {
    const page = await browser.newPage({ colorScheme, viewport: { width: 1280, height: 860 } });
    await page.goto(process.env.DASHBOARD);
    await isLive(page);
    await page.getByText("5 min", { exact: true }).click();
    // The map shows the last ten seconds.
    await page.waitForTimeout(12_000);
    await page.screenshot({ path: `docs/images/dashboard-${colorScheme}.png` });
    await page.close();
  }
  await browser.close();
})();
