const { AxeBuilder } = require("@axe-core/playwright");
const { test, expect, isLive } = require("./support");

async function violations(page) {
  const { violations: found } = await new AxeBuilder({ page }).analyze();
  return found.map((it) => `${it.id}: ${it.help}\n${it.nodes.map((node) => `  ${node.html} ${node.any.map((any) => any.message).join("; ")}`).join("\n")}`);
}

for (const colorScheme of ["light", "dark"]) {
  for (const width of [390, 1440]) {
    test(`nothing keeps anybody out: ${colorScheme}, ${width} wide`, async ({ dashboard: page }) => {
      await page.setViewportSize({ width, height: 900 });
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      await isLive(page);
      await expect(page.locator("#routes-body tbody tr").first()).toBeVisible();
      expect(await violations(page)).toEqual([]);
    });
  }
}

test("the dialog keeps nobody out either, and takes the keys", async ({ dashboard: page }) => {
  await isLive(page);
  const button = page.getByRole("button", { name: "Token", exact: true });
  await button.focus();
  await page.keyboard.press("Enter");
  await expect(page.getByRole("dialog", { name: "Admin token" })).toBeVisible();
  await expect(page.getByLabel("Admin token").and(page.locator("input"))).toBeFocused();
  expect(await violations(page)).toEqual([]);
  await page.keyboard.press("Escape");
  await expect(page.getByRole("dialog")).toBeHidden();
  await expect(button).toBeFocused();
});

test("the first key leads past the bar", async ({ dashboard: page }) => {
  await isLive(page);
  await page.keyboard.press("Tab");
  await expect(page.getByRole("link", { name: "Skip to content" })).toBeFocused();
  await page.keyboard.press("Enter");
  await expect(page.locator("main")).toBeFocused();
});
