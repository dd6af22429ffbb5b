// A picture of every node of the pack, as the frontend draws it, and then its help page with that picture.
//   node pictures.mjs URL CHROMIUM FOLDER PAGES_FOLDER
// FOLDER gets <node id>.jpg, PAGES_FOLDER a screenshot of each node with its help page open.
import fs from 'node:fs'
import path from 'node:path'
import { visit } from './page.mjs'

const [url, executablePath, out, pages] = process.argv.slice(2)
const PLACE = { left: 300, top: 150, margin: 14 } // of the node on the canvas, in pixels

// Puts one node on an empty canvas and returns where it is on the page: evaluated in the page.
function show([type, place]) {
  const { app, LiteGraph } = window
  app.graph.clear()
  const node = LiteGraph.createNode(type)
  app.graph.add(node)
  node.pos = [0, 0]
  node.size = [Math.max(node.size[0], 320), node.computeSize()[1]]
  Object.assign(app.canvas.ds, { scale: 1, offset: [place.left, place.top] })
  app.canvas.setDirty(true, true)
  const { left, top } = app.canvas.canvas.getBoundingClientRect()
  const title = LiteGraph.NODE_TITLE_HEIGHT
  return {
    x: left + place.left - place.margin, y: top + place.top - title - place.margin,
    width: node.size[0] + 2 * place.margin, height: node.size[1] + title + 2 * place.margin
  }
}

await visit(url, executablePath, async (page, report) => {
  report.nodes = await page.evaluate(() => Object.keys(window.LiteGraph.registered_node_types).filter((type) => type.startsWith('FusionFrames_')))
  report.shown = []
  for (const type of report.nodes) {
    const clip = await page.evaluate(show, [type, PLACE])
    await page.waitForTimeout(400)
    const picture = path.join(out, `${type}.jpg`)
    await page.screenshot({ path: picture, type: 'jpeg', quality: 80, clip })
    // what the server has may be an older picture: the page shall show this one
    await page.route(`**/docs/${type}.jpg`, (route) => route.fulfill({ body: fs.readFileSync(picture), contentType: 'image/jpeg' }))
    await page.evaluate(() => window.app.canvas.selectNode(window.app.graph.nodes[0]))
    await page.getByTestId('info-button').click()
    const image = page.locator(`img[src*="${type}.jpg"]`)
    await image.waitFor({ timeout: 5000 }).catch(() => {})
    if ((await image.count()) && (await image.first().evaluate((element) => element.complete && element.naturalWidth > 0))) report.shown.push(type)
    await page.screenshot({ path: path.join(pages, `${type}.png`) })
  }
})
